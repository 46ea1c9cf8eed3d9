# amaranth: UnusedElaboratable=no
"""The C header says what the register table says, to a C and to a C++ compiler."""
import re
import shutil
import subprocess

import pytest

from firmware_models.registers import table
from hwgen.build import describe
from hwgen.registers_header import header
from rtl.core import Core

from .networks import small_network

ALL = ("load", "snapshot", "journal", "shaping", "drift", "vote", "rounding", "sparse", "rank1")
CORES = {
    "inference": {"learning": False}, "np": {}, "es": {"rules": ("es",), "options": ALL},
    "both": {"rules": ("es", "np"), "options": (
        "load", "snapshot", "journal", "shaping", "drift")},
    "topk": {"options": ("topk", "standardize")}}

PROGRAM = """#include "core_registers.h"
#include <stdio.h>
int main(void) {
    static uint32_t words[CORE_SPACE_BYTES / 4];
    if (core_is_here(words)) return 1;
    core_write(words, CORE_ID_OFFSET, CORE_ID_RESET);
    if (core_is_here(words)) return 2;
    core_write(words, CORE_BUILD_OFFSET, CORE_BUILD_RESET);
    if (!core_is_here(words)) return 3;
    core_write(words, CORE_CONTROL_OFFSET, core_set(0xFFFFFFFDu, CORE_CONTROL_LEARN_MASK,
                                                    CORE_CONTROL_LEARN_LSB, 0xFFu));
    if (words[1] != 0xFFFFFFFFu) return 4;
    if (core_get(core_read(words, CORE_CONTROL_OFFSET), CORE_CONTROL_LEARN_MASK,
                 CORE_CONTROL_LEARN_LSB) != 1) return 5;
    %s
    return 0;
}
"""


def core(name: str) -> Core:
    return Core(small_network((6, 5, 4), (0, 1)), **CORES[name])


@pytest.mark.parametrize("name", CORES)
def test_macros(name):
    """Every macro, and no other one, with the value that the table gives it."""
    made = core(name)
    text = header(describe(made))
    expected = {"CORE_SPACE_BYTES": 256}
    for register in table(made.learning, made.rules, made.options, made.build):
        expected[f"CORE_{register.name.upper()}_OFFSET"] = register.offset
        for f in register.fields:
            stem = f"CORE_{register.name.upper()}" + (
                "" if f.name == "value" else f"_{f.name.upper()}")
            names = {f"{stem}_LSB": f.lsb, f"{stem}_RESET": f.reset,
                     f"{stem}_MASK": sum(1 << bit for bit in range(f.lsb, f.lsb + f.width))}
            assert not names.keys() & expected.keys()
            expected |= names
    found = re.findall(r"^#define (\w+) (\w+)$", text, re.MULTILINE)
    assert len(dict(found)) == len(found)
    assert {n: int(value.rstrip("u"), 0) for n, value in found} == expected
    assert text.startswith("/* SPDX-License-Identifier: Apache-2.0\n")
    assert text == header(describe(core(name)))


@pytest.mark.parametrize("language, options", [
    ("c", ["gcc", "-std=c11"]), ("cpp", ["g++", "-std=c++11"])])
def test_compiles(tmp_path, language, options):
    """Without a warning; the accessors, and the macros as the compiler sees them."""
    if not shutil.which(options[0]):
        pytest.skip(f"needs {options[0]}")
    text = header(describe(core("both")))
    (tmp_path / "core_registers.h").write_text(text)
    macros = re.findall(r"^#define (\w+) (\w+)$", text, re.MULTILINE)
    prints = "\n    ".join(f'printf("%lu\\n", (unsigned long){name});' for name, _ in macros)
    source = tmp_path / f"main.{language}"
    source.write_text(PROGRAM % prints)
    subprocess.run([*options, "-Wall", "-Wextra", "-Werror", "-pedantic", source, "-o",
                    tmp_path / "main"], check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.split() == [str(int(value.rstrip("u"), 0)) for _, value in macros]
