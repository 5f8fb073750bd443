"""The manual page, made from the same arguments and help texts that ``--help`` shows: ``python -m landline.cli.man``.

One page for the command and its subcommands: they are few, and a person who looks for ``--tls`` searches in one place.
Its macros are those of man(7), which every formatter knows (groff, mandoc, and what reads pages on the web).
"""

from __future__ import annotations

import re
import sys
from typing import Any

__all__ = ["manual_page"]

EXIT_STATUS = (
    ("0", "All went well. For 'probe': the peer is usable."),
    ("1", "A failure, which was told in one line on standard error."),
    ("2", "Wrong usage."),
    ("130", "Ctrl-C."),
)

SEE_ALSO = r"\fBsocat\fR(1), \fBnc\fR(1), \fBopenssl-s_client\fR(1), \fBcurl\fR(1)"


def manual_page(version: str) -> str:
    """The page as roff, in man(7)'s macros, ASCII only."""
    import typer

    from .app import app

    group: Any = typer.main.get_command(app)
    context = group.make_context("landline", [], resilient_parsing=True)
    lines = [
        f'.TH LANDLINE 1 "" "landline {_text(version)}" "User Commands"',
        ".SH NAME",
        rf"landline \- {_text(_first(group.help)).rstrip('.')}",
        ".SH SYNOPSIS",
    ]
    commands = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    for name, command in commands:
        lines += [rf"\fBlandline {_text(name)}\fR {_usage(command)}", ".br"]
    lines += [".SH DESCRIPTION", *_paragraphs(group.help), *_paragraphs(_tell_apart(commands))]
    for name, command in commands:
        lines += [f".SH LANDLINE {_text(name).upper()}", *_paragraphs(command.help), *_parameters(command, context)]
    lines += [".SH OPTIONS OF LANDLINE ITSELF", *_parameters(group, context)]
    lines.append(".SH EXIT STATUS")
    for status, meaning in EXIT_STATUS:
        lines += [".TP", rf"\fB{status}\fR", _text(meaning)]
    lines += [
        ".SH ENVIRONMENT",
        ".TP",
        r"\fBNO_COLOR\fR",
        "Nothing is coloured when this is set and not empty.",
        ".TP",
        r"\fBSSL_CERT_FILE\fR, \fBSSL_CERT_DIR\fR, \fBSSLKEYLOGFILE\fR",
        "As for every program over OpenSSL: the trusted authorities, and a file for the keys of sessions.",
        ".SH SEE ALSO",
        SEE_ALSO,
    ]
    kept = [
        line
        for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False)
        if not (line == ".PP" and before.startswith(".SH")) and not (line == ".br" and after.startswith(".SH"))
    ]
    return "\n".join(kept) + "\n"


def _tell_apart(commands: list[tuple[str, Any]]) -> str:
    return "\n\n".join(f"{name}: {_first(command.help)}" for name, command in commands)


def _first(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _usage(command: Any) -> str:
    parts = [r"[\fIOPTIONS\fR]"]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = rf"\fI{_text(_name(parameter))}\fR"
            parts.append(f"[{name}]" if not parameter.required else name)
    return " ".join(parts)


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).rstrip(".")


def _paragraphs(text: str) -> list[str]:
    """Paragraphs; one that begins with \\b keeps its lines, as typer has it."""
    lines: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text.strip("\n")):
        if paragraph.startswith("\b"):
            kept = paragraph.split("\n")[1:]
            title = kept.pop(0) if kept and not kept[0].startswith(" ") else None
            if title is not None:
                lines += [".PP", _text(title)]
            lines += [".PP", ".nf", ".RS 2", *(_text(line.strip()) for line in kept), ".RE", ".fi"]
        else:
            lines += [".PP", _text(" ".join(paragraph.split()))]
    return lines


def _parameters(command: Any, context: Any) -> list[str]:
    lines: list[str] = []
    for parameter in command.get_params(context):
        if parameter.param_type_name == "argument":
            head = rf"\fI{_text(_name(parameter))}\fR"
            text = parameter.help
        else:
            names = ", ".join(rf"\fB{_text(name)}\fR" for name in sorted(parameter.opts, key=len))
            value = "" if parameter.is_flag else rf" \fI{_text(parameter.metavar or 'VALUE')}\fR"
            head, text = names + value, parameter.help
        if getattr(parameter, "hidden", False):
            continue
        if getattr(parameter, "show_default", False) and isinstance(parameter.default, float):
            text = f"{text} Default: {parameter.default:g}."
        lines += [".TP", head, _text(" ".join((text or "").split()))]
    return lines


def _text(text: str) -> str:
    """Text in which nothing is an order: backslashes, hyphens that are to be copied, dots that begin a line."""
    made = (
        text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("^", r"\(ha").replace("~", r"\(ti")
    )
    made = "".join(one if one.isascii() else rf"\[u{ord(one):04X}]" for one in made)
    return rf"\&{made}" if made.startswith(".") else made


def main() -> None:
    from .. import __version__

    sys.stdout.write(manual_page(__version__))


if __name__ == "__main__":
    main()
