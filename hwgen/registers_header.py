"""The registers of a core as a C header, for firmware and drivers in C or C++."""
import textwrap
from functools import cache
from pathlib import Path

import jinja2

from .ipxact import RANGE

FOLDER = Path(__file__).with_name("templates")


@cache
def template(name: str) -> jinja2.Template:
    """A template of the files that accompany the Verilog."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=False, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True).get_template(f"{name}.j2")


def header(manifest: dict) -> str:
    """Text of the header: C11, and C++.

    Offsets, and of each field its lowest bit, mask and reset value, as macros that begin with the
    name of the top module; accessors as static inline functions.

    Parameters
    ----------
    manifest : dict
        ``manifest.json``.
    """
    prefix = manifest["top"].upper()
    registers = []
    for register in manifest["registers"]:
        macro = f"{prefix}_{register['name'].upper()}"
        registers.append(register | {"macro": macro, "fields": [f | {
            "macro": macro if f["name"] == "value" else f"{macro}_{f['name'].upper()}",
            "mask": (1 << f["width"]) - 1 << f["lsb"],
            "comment": textwrap.fill(f["doc"], 94, subsequent_indent=" * "),
        } for f in register["fields"]]})
    return template("registers.h").render(
        top=manifest["top"], prefix=prefix, network=manifest["network"]["name"], space=RANGE,
        version=manifest["tools"]["hwgen"], registers=registers)
