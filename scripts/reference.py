"""The parts of the documentation site that are made from the code while it is built: a hook of mkdocs (mkdocs.yml).

* reference/*.md: every public name of landline, landline.comm and landline.testing, from signatures and docstrings.
* a line ``<!-- help: connect -->`` becomes what ``landline connect --help`` says.
* a line ``<!-- readme: Measured -->`` becomes that section of README.md.

Nothing of it is kept in the repository, so nothing can drift. GROUPS says on which page a name stands; one that stands
nowhere, or is gone, ends the build. (mkdocstrings was tried: it calls arguments that share a line of a docstring
"required", and does not see the functions of landline.comm that are made at import.)
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import landline
import landline.comm
import landline.testing
from landline.testing import contract

__all__ = ["on_files", "on_page_markdown", "pages"]

ROOT = Path(__file__).parent.parent

COMMAND = "import sys; sys.argv[0] = 'landline'; from landline.cli import main; sys.exit(main())"

GROUPS = {
    "opening": (
        "Opening connections",
        "open_tcp_stream connect_to_tcp_server open_unix_stream Cancel KeepAlive detect_dead_peer ProxyHeader",
    ),
    "streams": (
        "Streams",
        "SocketStream TextSocketStream wait_for_input_streams wait_for_input_streams_returning_first ConnectionReport "
        "LookupRecord AttemptRecord HandshakeRecord",
    ),
    "tls": (
        "TLS",
        "create_ssl_client_context create_ssl_server_context SslAbstractContext TlsInfo Verification Certificate",
    ),
    "servers": ("Servers", "start_up_server Server start_up_unix_server inherited_sockets"),
    "datagrams": ("Datagrams", "open_udp_socket UdpSocket start_up_udp_server UdpServer Datagram DatagramTruncated"),
    "conditions": (
        "Conditions",
        "SocketError SocketCreateError SocketConnectError HostLookupError ConnectTimeout SocketIOError ReadTimeout "
        "WriteTimeout StreamClosed LimitOverrun SslCondition SslClosed SslError SslFailure SslVersionOrCipherMismatch "
        "SslVerificationFailure SslHandshakeTimeout IncompleteRead",
    ),
    "addresses": (
        "Addresses and names",
        "SocketAddress get_host_entry HostEntry get_service_entry ServiceEntry get_default_local_ipv6_address "
        "get_ip_default_zone_id ip_address_string string_ip_address parse_ipv6_address ipv6_address_scope_id",
    ),
    "java": ("TLS through a JVM", "open_tcp_stream_using_java switch_open_tcp_stream_with_ssl_to_java"),
}

MADE_ELSEWHERE = (landline.Server, landline.UdpServer, landline.Datagram, landline.SslAbstractContext)
"""Classes that nobody makes by hand: what their constructors take is nobody's business."""

COMM_GROUPS = {
    "connect": "Connecting",
    "socket_stream": "Socket streams",
    "reading": "Reading",
    "writing": "Writing",
    "format": "Writing",
    "attach": "TLS on a stream",
    "contexts": "TLS contexts",
    "servers": "Servers",
    "waiting": "Waiting",
    "addresses": "Addresses",
    "conditions": "Conditions",
    "keywords": "Conditions",
    "no_meaning": "Without a meaning here",
}
"""Which heading of its page the names of a module of landline.comm stand under; others are landline's own."""

COMM_HEAD = """\
The names, defaults and return values of the LispWorks manual. [The manual, symbol by symbol](../manual.md) says what
is here, what differs and what has no meaning; [Porting from Lisp](../guides/lisp.md) how to begin.
"""

TESTING_HEAD = """\
Networks in virtual time, and the contract that every stream keeps. [Testing without a network](../guides/testing.md)
shows both at work.
"""

INDEX = """\
# Reference

Every public name, made from the code and its docstrings. `import landline` gives them all; each is loaded when it
is first used.

{lists}

Two more modules have names of their own: [landline.comm](comm.md), the LispWorks manual to the letter, and
[landline.testing](testing.md).
"""


# ---- what mkdocs calls ---------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add the reference to the files of the site."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put in what comes from elsewhere."""
    markdown = re.sub(r"(?m)^<!-- help: (.+) -->$", lambda found: _help(found[1]), markdown)
    return re.sub(r"(?m)^<!-- readme: (.+) -->$", lambda found: _of_readme(found[1]), markdown)


def _help(words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words.split(), "--help"],
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"```text\n{done.stdout.strip()}\n```"


def _of_readme(title: str) -> str:
    _, found, rest = (ROOT / "README.md").read_text("utf-8").partition(f"\n## {title}\n")
    if not found:
        raise LookupError(f"README.md has no section {title!r}")
    return rest.partition("\n## ")[0].strip()


def pages() -> dict[str, str]:
    """The pages of the reference by their names. Raises LookupError for a name that has no place."""
    named = {name: page for page, (_, names) in GROUPS.items() for name in names.split()}
    if set(named) != set(landline.__all__):
        raise LookupError(f"GROUPS and landline.__all__ differ by {set(named) ^ set(landline.__all__)}")
    made = {
        page: f"# {title}\n\n" + "\n".join(_entry(landline, name, named) for name in names.split())
        for page, (title, names) in GROUPS.items()
    }
    lists = "\n\n".join(
        f"## {title}\n\n" + "\n".join(_list_item(name, page) for name in names.split())
        for page, (title, names) in GROUPS.items()
    )
    return {
        "index": INDEX.format(lists=lists),
        **made,
        "comm": _comm(named),
        "testing": _testing(named),
    }


def _list_item(name: str, page: str) -> str:
    return f"* [`{name}`]({page}.md#landline.{name}): {_first(getattr(landline, name))}"


def _comm(named: dict[str, str]) -> str:
    module = landline.comm
    parts: dict[str, list[str]] = {title: [] for title in COMM_GROUPS.values()}
    for name in module.__all__:
        home = str(getattr(getattr(module, name), "__module__", "")).removeprefix("landline.comm.")
        parts[COMM_GROUPS.get(home, "Conditions" if _is_condition(getattr(module, name)) else "TLS contexts")].append(
            _entry(module, name, named, "###")
        )
    text = "\n".join(f"## {title}\n\n" + "\n".join(entries) for title, entries in parts.items())
    return f"# landline.comm\n\n{COMM_HEAD}\n{text}"


def _testing(named: dict[str, str]) -> str:
    module = landline.testing
    text = "\n".join(_entry(module, name, named) for name in module.__all__)
    checks = "\n".join(
        f"`{check.name}`\n:   {_linked(' '.join(check.clause.split()), named)}\n" for check in contract.CHECKS
    )
    head = _text(inspect.getdoc(contract) or "", named)
    return (
        f"# landline.testing\n\n{TESTING_HEAD}\n{text}\n"
        f"## landline.testing.contract {{#landline.testing.contract}}\n\n{head}\n\n### The clauses\n\n{checks}"
    )


# ---- one name ------------------------------------------------------------------------------------


def _entry(module: ModuleType, name: str, named: dict[str, str], level: str = "##") -> str:
    value = getattr(module, name)
    head = f"{level} {name} {{#{module.__name__}.{name}}}\n"
    home = str(getattr(value, "__module__", ""))
    if module is landline.comm:
        for other in landline.__all__:
            if getattr(landline, other) is value:
                return f"{head}\n[`landline.{other}`]({named[other]}.md#landline.{other}).\n"
    if isinstance(value, type) and home.partition(".")[0] != "landline":
        return f"{head}\nPython's `{home}.{value.__name__}`.\n"
    text = _text(inspect.getdoc(value) or "", named)
    if not isinstance(value, type):
        if not callable(value):  # a type's other name
            return f"{head}\n```python\n{name} = {value}\n```\n"
        return f"{head}\n{_signature(name, value)}\n\n{text}\n"
    parts = [head, _class_line(name, value), text]
    for member, kind, doc, function in _members(value):
        parts.append(f"{level}# {member} {{#{module.__name__}.{name}.{member}}}\n")
        parts.append(_signature(member, function, method=True) if function else f"*{kind}*")
        parts.append(_text(doc, named))
    return "\n\n".join(parts) + "\n"


def _class_line(name: str, value: type) -> str:
    bases = [base.__name__ for base in value.__bases__ if base is not object and not base.__name__.startswith("_")]
    if issubclass(value, BaseException) or value in MADE_ELSEWHERE:
        return f"```python\nclass {name}{'(' if bases else ''}{', '.join(bases)}{')' if bases else ''}\n```"
    return _signature(name, value)


def _members(value: type) -> Iterator[tuple[str, str, str, Callable[..., Any] | None]]:
    """(name, kind, docstring, function) of what a class of landline's adds, its bases' of landline included."""
    if issubclass(value, BaseException):
        return
    seen: set[str] = set()
    for base in value.__mro__:
        if base.__module__.partition(".")[0] != "landline":
            continue
        for name, found in vars(base).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            doc = inspect.getdoc(found) if not isinstance(found, (str, int, float, type(None))) else None
            if isinstance(found, property) and doc:
                yield name, "property, settable" if found.fset else "property", doc, None
            elif inspect.isfunction(found) and found.__doc__:
                yield name, "method", inspect.cleandoc(found.__doc__), found


def _signature(name: str, value: Any, method: bool = False) -> str:
    signature = inspect.signature(value)
    parameters = list(signature.parameters.values())[1 if method else 0 :]
    overloads = typing.get_overloads(value) if inspect.isfunction(value) else []
    results = [inspect.signature(each).return_annotation for each in overloads] or [signature.return_annotation]
    words = []
    kinds = [each.kind for each in parameters]
    for index, each in enumerate(parameters):
        if each.kind == each.KEYWORD_ONLY and not {each.KEYWORD_ONLY, each.VAR_POSITIONAL} & set(kinds[:index]):
            words.append("*")
        words.append(_parameter(each))
        if each.kind == each.POSITIONAL_ONLY and kinds[index + 1 : index + 2] != [each.POSITIONAL_ONLY]:
            words.append("/")
    result = " | ".join(dict.fromkeys(map(_type, results)))
    arrow = f" -> {result}" if result and not isinstance(value, type) else ""
    line = f"{name}({', '.join(words)}){arrow}"
    if len(line) > 80:
        inside = "".join(f"    {word},\n" for word in words)
        line = f"{name}(\n{inside}){arrow}"
    return f"```python\n{line}\n```"


def _parameter(each: inspect.Parameter) -> str:
    stars = "*" if each.kind == each.VAR_POSITIONAL else "**" if each.kind == each.VAR_KEYWORD else ""
    kind = _type(each.annotation)
    text = f"{stars}{each.name}" + (f": {kind}" if kind else "")
    if each.default is each.empty:
        return text
    return f"{text}{' = ' if kind else '='}{_default(each.default)}"


def _default(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__name__", value))
    return repr(value)


def _type(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return str(text).strip("'\"")


# ---- docstrings ----------------------------------------------------------------------------------

ITEM = re.compile(r"    (?P<names>[\w*, ()]+?): (?P<text>.+)")
SOURCE = re.compile(r"^(Sources?: .+?)(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)


def _text(doc: str, named: dict[str, str]) -> str:
    """A docstring as markdown: its lists of arguments, conditions and attributes become definitions."""
    doc = SOURCE.sub(lambda found: f"*{' '.join(found[1].split())}*", doc)
    made: list[str] = []
    listing = defining = prose = False  # inside a list; inside a definition of it; a list without definitions
    lines = doc.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        indented = line.startswith("    ")
        if not indented and line.endswith(":") and following.startswith("    "):
            listing, defining, prose = True, False, line == "Returns:"
            title = "Arguments" if line == "Args:" else line[:-1]
            made += ["", f"**{title}**" if " " not in title else _linked(line, named), ""]
        elif not indented:
            listing = listing and not line
            made.append(_linked(line.removesuffix(":") if line.endswith("::") else line, named))
        elif not listing:
            made.append(line)  # code
        elif not prose and (item := ITEM.fullmatch(line)):
            defining = True
            terms = re.sub(r"(?<![\w ])[*\w]+(?=,|$)|(?<=, )[*\w]+(?=,|$)", r"`\g<0>`", item["names"])
            made += ["", terms, f":   {_linked(item['text'], named)}"]
        else:
            made.append(("    " if defining else "") + _linked(line.strip(), named))
    return "\n".join(made)


def _linked(text: str, named: dict[str, str]) -> str:
    """Code as code, and public names as links to where they are described."""

    def link(found: re.Match[str]) -> str:
        name, call = found[1], found[2] or ""
        ordinary = not call and "_" not in name and (name.istitle() or name.islower())  # a word, perhaps
        if name not in named or ordinary:
            return found[0]
        return f"[`{name}{call}`]({named[name]}.md#landline.{name})"

    parts = re.split(r"(``.+?``|`.+?`)", text)
    for index, part in enumerate(parts):
        if index % 2:
            parts[index] = f"`{part.strip('`')}`"
        else:
            plain = part.replace("<", "&lt;").replace("*.", "\\*.")
            parts[index] = re.sub(r"(?<![\w.=\"'])([A-Za-z]\w+)(\(\))?(?![\w(])", link, plain)
    return "".join(parts)


def _first(value: Any) -> str:
    """The first sentence of a docstring."""
    first = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
    found = re.match(r".+?[.](?= |$)", first)
    return re.sub(r"``(.+?)``", r"`\1`", found[0] if found else first)


def _is_condition(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
