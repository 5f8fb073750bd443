import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.OutputStreamWriter;
import java.math.BigInteger;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.Security;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import javax.net.ssl.ExtendedSSLSession;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SNIServerName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * TLS as Java's own sockets speak it, for tests that say from outside what is to be done next.
 *
 * A server or a client with a fixed behaviour would be a program per test, and starting a JVM takes longer than
 * a test. So one JVM obeys many tests: its standard output begins with the number of a port, and every connection to
 * that port is one peer, which is told a line at a time what to do and answers each line with one. Lines may be sent
 * ahead. Fields are parted by tabs; an answer is "ok" or "failed", then name=value fields. The JVM ends when its
 * standard input does, so it cannot outlive the tests.
 *
 * The language is that of Java 11, and one file is all: `java TlsPeer.java` needs no compiler beside it.
 */
public class TlsPeer implements Runnable {
    static final int PATIENCE = 15_000;  // milliseconds that anything may block; the tests wait a little longer
    static final char[] PASSWORD = "secret".toCharArray();
    static final InetAddress HERE = InetAddress.getLoopbackAddress();

    final Socket orders;
    final Map<String, String> options = new HashMap<>();
    SSLContext context;
    ServerSocket listener;
    Socket below;  // the TCP socket under the TLS one, where there are two
    SSLSocket tls;

    public static void main(String[] arguments) throws Exception {
        // A new key after so many bytes, instead of 128 GiB: then a test gets to see it.
        Security.setProperty("jdk.tls.keyLimits", "AES/GCM/NoPadding KeyUpdate 2^20");
        // Java takes an end without close_notify for a proper one, unless it is told not to.
        System.setProperty("com.sun.net.ssl.requireCloseNotify", "true");
        ServerSocket door = new ServerSocket(0, 50, HERE);
        Thread porter = new Thread(() -> {
            try {
                while (true) {
                    Thread thread = new Thread(new TlsPeer(door.accept()));
                    thread.setDaemon(true);
                    thread.start();
                }
            } catch (IOException error) {
                error.printStackTrace();
            }
        });
        porter.setDaemon(true);
        porter.start();
        System.out.println(door.getLocalPort());
        while (System.in.read() >= 0) { }
        System.exit(0);
    }

    TlsPeer(Socket orders) {
        this.orders = orders;
    }

    @Override
    public void run() {
        try (Socket open = orders) {
            open.setTcpNoDelay(true);
            InputStreamReader in = new InputStreamReader(open.getInputStream(), StandardCharsets.UTF_8);
            OutputStreamWriter out = new OutputStreamWriter(open.getOutputStream(), StandardCharsets.UTF_8);
            BufferedReader lines = new BufferedReader(in);
            BufferedWriter answers = new BufferedWriter(out);
            for (String line; (line = lines.readLine()) != null; ) {
                answers.write(answer(line.split("\t")) + "\n");
                answers.flush();
            }
        } catch (IOException error) {
            // The test has ended, and with it this peer.
        } finally {
            for (AutoCloseable each : new AutoCloseable[] {below, tls, listener}) {
                try {
                    if (each != null) each.close();
                } catch (Exception error) {
                    // It was to be left in any case.
                }
            }
        }
    }

    String answer(String[] order) {
        Map<String, Object> said = new TreeMap<>();
        StringBuilder line = new StringBuilder("ok");
        try {
            obey(order, said);
        } catch (Exception error) {
            line.replace(0, 2, "failed");
            said.put("kind", error.getClass().getSimpleName());
            StringBuilder why = new StringBuilder();
            for (Throwable each = error; each != null; each = each.getCause()) {
                why.append(why.length() > 0 ? "; " : "").append(each.getMessage());
            }
            said.put("why", why);
        }
        said.forEach((name, value) -> line.append('\t').append(name).append('=').append(plain(value)));
        return line.toString();
    }

    static String plain(Object value) {
        return String.valueOf(value).replaceAll("[\\t\\r\\n]", " ");
    }

    void obey(String[] order, Map<String, Object> said) throws Exception {
        switch (order[0]) {
            case "server": server(order, said); break;
            case "client": take(order); break;
            case "accept": accept(said); break;
            case "connect": connect(Integer.parseInt(order[1]), order[2], said); break;
            case "read": read(Integer.parseInt(order[1]), said); break;
            case "write": write(order); break;
            case "echo": echo(Long.parseLong(order[1]), said); break;
            case "shutdownOutput": tls.shutdownOutput(); break;
            case "close": tls.close(); break;
            case "cut": below.close(); break;  // FIN, and no close_notify
            case "reset": below.setSoLinger(true, 0); below.close(); break;
            default: throw new IllegalArgumentException(order[0]);
        }
    }

    // ---- what a peer is: server <options>, client <options> ----------------------------------------------

    /*
     * key=      PKCS12 file with its key and certificates
     * trust=    PEM file with the authority it trusts
     * versions= of TLS, as Java calls them
     * alpn=     application protocols, the preferred one first
     * clients=  "need" or "want" a certificate (server)
     * serves=   the only name, a regular expression, that it serves (server)
     * layered=  TLS over a plain socket, which can be closed without TLS knowing (server; clients always are)
     * packet=   the longest record
     */
    void take(String[] order) throws Exception {
        for (int at = 1; at < order.length; at++) {
            String[] pair = order[at].split("=", 2);
            options.put(pair[0], pair[1]);
        }
        KeyManagerFactory keys = null;
        if (options.containsKey("key")) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            try (InputStream file = new FileInputStream(options.get("key"))) {
                store.load(file, PASSWORD);
            }
            keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
            keys.init(store, PASSWORD);
        }
        TrustManagerFactory trust = null;
        if (options.containsKey("trust")) {
            KeyStore store = KeyStore.getInstance("PKCS12");
            store.load(null, null);
            try (InputStream file = new FileInputStream(options.get("trust"))) {
                for (Certificate one : CertificateFactory.getInstance("X.509").generateCertificates(file)) {
                    store.setCertificateEntry("authority" + store.size(), one);
                }
            }
            trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            trust.init(store);
        }
        context = SSLContext.getInstance("TLS");
        context.init(keys == null ? null : keys.getKeyManagers(), trust == null ? null : trust.getTrustManagers(), null);
    }

    void server(String[] order, Map<String, Object> said) throws Exception {
        take(order);
        if (options.containsKey("layered")) {
            listener = new ServerSocket(0, 50, HERE);
        } else {
            SSLServerSocket secure = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 50, HERE);
            secure.setSSLParameters(adapted(secure.getSSLParameters()));
            listener = secure;
        }
        listener.setSoTimeout(PATIENCE);
        said.put("port", listener.getLocalPort());
    }

    SSLParameters adapted(SSLParameters parameters) {
        if (options.containsKey("versions")) parameters.setProtocols(options.get("versions").split(","));
        if (options.containsKey("alpn")) parameters.setApplicationProtocols(options.get("alpn").split(","));
        if (options.containsKey("packet")) parameters.setMaximumPacketSize(Integer.parseInt(options.get("packet")));
        if (options.containsKey("serves")) {
            parameters.setSNIMatchers(List.of(SNIHostName.createSNIMatcher(options.get("serves"))));
        }
        if ("need".equals(options.get("clients"))) parameters.setNeedClientAuth(true);
        if ("want".equals(options.get("clients"))) parameters.setWantClientAuth(true);
        return parameters;
    }

    // ---- connections: accept, connect <port> <name> ------------------------------------------------------

    void accept(Map<String, Object> said) throws Exception {
        below = null;
        Socket socket = listener.accept();
        if (listener instanceof SSLServerSocket) {
            tls = (SSLSocket) socket;
        } else {
            below = socket;
            tls = (SSLSocket) context.getSocketFactory().createSocket(socket, null, true);
            tls.setUseClientMode(false);
            tls.setSSLParameters(adapted(tls.getSSLParameters()));
        }
        shake(said);
    }

    void connect(int port, String name, Map<String, Object> said) throws Exception {
        below = new Socket(HERE, port);
        tls = (SSLSocket) context.getSocketFactory().createSocket(below, name, port, true);
        SSLParameters parameters = adapted(tls.getSSLParameters());
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        tls.setSSLParameters(parameters);
        shake(said);
    }

    void shake(Map<String, Object> said) throws Exception {
        tls.setTcpNoDelay(true);
        tls.setSoTimeout(PATIENCE);
        long began = System.currentTimeMillis();
        while (System.currentTimeMillis() == began) Thread.onSpinWait();  // what was made before is older than that
        tls.startHandshake();
        ExtendedSSLSession session = (ExtendedSSLSession) tls.getSession();
        said.put("version", session.getProtocol());
        said.put("cipher", session.getCipherSuite());
        said.put("alpn", tls.getApplicationProtocol());
        said.put("resumed", session.getCreationTime() <= began);
        List<String> names = new ArrayList<>();
        for (SNIServerName name : session.getRequestedServerNames()) {
            names.add(new String(name.getEncoded(), StandardCharsets.US_ASCII));
        }
        said.put("names", String.join(",", names));
        try {
            said.put("peer", session.getPeerPrincipal().getName());
        } catch (SSLPeerUnverifiedException error) {
            said.put("peer", "");
        }
    }

    // ---- bytes: read <most>, write <hexadecimal> <size of a piece>..., echo <count> ----------------------

    /** Reads until it has so many bytes, or the end has come. */
    void read(int most, Map<String, Object> said) throws IOException {
        byte[] data = tls.getInputStream().readNBytes(most);
        said.put("data", hexadecimal(data));
        said.put("end", data.length < most);
    }

    /** Writes in pieces of these sizes, again and again: Java makes records of their own for each. */
    void write(String[] order) throws IOException {
        byte[] data = new byte[order[1].length() / 2];
        for (int at = 0; at < data.length; at++) {
            data[at] = (byte) Integer.parseInt(order[1].substring(2 * at, 2 * at + 2), 16);
        }
        OutputStream out = tls.getOutputStream();
        int pieces = order.length - 2;
        for (int at = 0, count = 0, size; at < data.length; at += size) {
            size = data.length - at;
            if (pieces > 0) size = Math.min(size, Integer.parseInt(order[2 + count++ % pieces]));
            out.write(data, at, size);
        }
    }

    /** Sends back so many bytes as they come, or all of them until the end; says how many it were, and their hash. */
    void echo(long most, Map<String, Object> said) throws Exception {
        MessageDigest hash = MessageDigest.getInstance("SHA-256");
        InputStream in = tls.getInputStream();
        OutputStream out = tls.getOutputStream();
        byte[] buffer = new byte[1 << 16];
        long count = 0;
        for (int size; count < most && (size = in.read(buffer)) >= 0; count += size) {
            hash.update(buffer, 0, size);
            out.write(buffer, 0, size);
        }
        said.put("count", count);
        said.put("hash", hexadecimal(hash.digest()));
    }

    static String hexadecimal(byte[] data) {
        return data.length == 0 ? "" : String.format("%0" + 2 * data.length + "x", new BigInteger(1, data));
    }
}
