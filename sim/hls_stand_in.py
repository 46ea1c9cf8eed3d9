"""What stands in for a module that only Vitis HLS can make: hls4ml's C++ behind the same ports."""
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from .errors import SimulationError
from .verilate import Target

RUNTIME = "verilated_dpi.cpp"

LATENCY_MASK = 15               # most cycles of each wait, one less than a power of two

VERILOG = """\
// The core that Vitis HLS would make of the project, as far as its ports can tell.
// It reads every word of every weight port, in an order of its own and with pauses, then calls the
// project's C++. Where nothing valid is on an output, noise is.
import "DPI-C" function void {name}_call({signature});

module {name}(
{ports}
);
  reg [31:0] noise = 32'h2545F491;
  always @(posedge ap_clk) begin : generator
    reg [31:0] s;
    s = noise ^ noise << 13;
    s = s ^ s >> 17;
    noise <= s ^ s << 5;
  end

  localparam IDLE = 0, READ = 1, WAIT = 2, TAIL = 3;
  reg [1:0] state = IDLE;
  reg again = 0;                  // a start that was not taken back is the next one
  reg [31:0] order = 0;
  reg [{latency_bits}:0] left = 0;
  wire go = noise[31:30] != 0;
  wire [{memories}-1:0] complete;
  assign ap_idle = state == IDLE & ~ap_start;
  assign ap_ready = state == WAIT & left == 0 & ap_start & {x}_ap_vld;
  assign ap_done = state == TAIL & left == 0;
{reads}
  reg [{y_width}-1:0] result;
{outputs}
  always @(posedge ap_clk)
    if (ap_rst) begin
      state <= IDLE;
      again <= 0;
    end else case (state)
      IDLE: if (ap_start | again) begin
        again <= 0;
        order <= noise;
        state <= READ;
      end
      READ: if (&complete) begin
        left <= noise[{latency_bits}-1:0];
        state <= WAIT;
      end
      // The vector and the biases count until the start has been taken: read them last.
      WAIT: if (left != 0) left <= left - 1;
      else if (ap_ready) begin : call
        reg [{y_width}-1:0] y;
        {name}_call({arguments});
        result <= y;
        left <= noise[7 +: {latency_bits}];
        state <= TAIL;
      end
      TAIL: begin
        if (ap_start) again <= 1;
        if (left != 0) left <= left - 1;
        else state <= IDLE;
      end
    endcase
endmodule
"""

READ = """\
  // {weight}: words 0 to {depth} - 1, in an order that a mask of its own turns around every time.
  reg [{bits}:0] {weight}_step = 0;
  reg {weight}_asked = 0;
  reg [{bits}-1:0] {weight}_was = 0;
  reg [{all}-1:0] {weight}_all = 0;
  wire [{bits}-1:0] {weight}_next = {weight}_step[{bits}-1:0] ^ order[{lsb} +: {bits}];
  wire {weight}_ask = state == READ & go_{n} & ~{weight}_step[{bits}] & {weight}_next < {depth};
  wire go_{n} = noise[{n} % 24 +: 2] != 0;
  assign {weight}_ce0 = {weight}_ask;
  assign {weight}_address0 = {weight}_ask ? {weight}_next : noise[{bits}-1:0];
  assign complete[{n}] = {weight}_step[{bits}] & ~{weight}_asked;
  always @(posedge ap_clk)
    if (ap_rst | state == IDLE) begin
      {weight}_step <= 0;
      {weight}_asked <= 0;
    end else if (state == READ & go_{n}) begin
      if ({weight}_asked) {weight}_all[{weight}_was * {word} +: {word}] <= {weight}_q0;
      {weight}_asked <= {weight}_ask;
      {weight}_was <= {weight}_next;
      if (~{weight}_step[{bits}]) {weight}_step <= {weight}_step + 1;
    end
"""

OUTPUT = """\
  assign {port}_ap_vld = ap_done;
  assign {port} = ap_done ? result[{lsb} +: {width}] : {{{copies}{{noise}}}};
"""

SHIM = """\
// Project {digest}
#define WEIGHTS_DIR "{project}/firmware/weights"
#include "{project}/firmware/{name}.cpp"
#include "svdpi.h"

namespace {{

// `width` bits of a packed vector, from bit `lsb` on.
unsigned long long field(const svBitVecVal* v, size_t lsb, int width) {{
    unsigned long long value = 0;
    for (int i = 0; i < width; ++i)
        value |= (unsigned long long)(v[(lsb + i) / 32] >> (lsb + i) % 32 & 1) << i;
    return value;
}}

template <class T> void set(T& to, const svBitVecVal* v, size_t lsb) {{
    to.range(T::width - 1, 0) = ap_uint<64>(field(v, lsb, T::width));
}}

// Element r + depth * m of an array is lane m of word r.
template <class T> void words(T* to, const svBitVecVal* v, size_t size, size_t depth) {{
    const size_t lanes = size / depth;
    for (size_t r = 0; r < depth; ++r)
        for (size_t m = 0; m < lanes; ++m) set(to[r + depth * m], v, (r * lanes + m) * T::width);
}}

template <class T> void get(svBitVecVal* v, size_t lsb, const T& from) {{
    for (int i = 0; i < T::width; ++i)
        if (from[i]) v[(lsb + i) / 32] |= 1u << (lsb + i) % 32;
}}

}}  // namespace

extern "C" void {name}_call({parameters}) {{
{arrays}
    // A project with its weights in text files reads them in its first call, over the caller's.
    static const bool loaded = ({name}({call}), true);
    (void)loaded;
{setting}
    {name}({call});
    for (int i = 0; i < {y_words}; ++i) {y_name}_bits[i] = 0;
    for (int i = 0; i < {y_size}; ++i)
        get({y_name}_bits, size_t(i) * {y_type}::width, {y_name}[i]);
}}
"""


def beside(target: Target, design: dict, folder: Path) -> Target:
    """`target` with the stand-in, where the core of the manifest `design` in `folder` needs one."""
    if "hls" not in design:
        return target
    hls = design["hls"]
    project = folder / hls.get("project", "")
    runtime = target.runtime if RUNTIME in target.runtime else (*target.runtime, RUNTIME)
    return replace(target, beside=texts(hls, project), include=include(project), runtime=runtime)


def texts(hls: dict, project: Path) -> tuple[tuple[str, str], ...]:
    """Names and texts of the Verilog and of the C++ that stand in for the module.

    Parameters
    ----------
    hls : dict
        What the manifest says of the module, under "hls".
    project : Path
        Folder of hls4ml's project.

    Raises
    ------
    SimulationError
        When the project is not there.
    """
    top = project.resolve() / "firmware" / f"{hls['name']}.cpp"
    if not top.exists():
        raise SimulationError(f"{top} is not there; write hls4ml's project first")
    return (f"{hls['name']}.v", _verilog(hls)), ("shim.cpp", _shim(hls, project.resolve()))


def include(project: Path) -> tuple[str, ...]:
    """Folders that the C++ includes from."""
    return str(project.resolve() / "firmware" / "ap_types"),


def _arguments(hls: dict) -> list[tuple[str, int]]:
    """Vectors that the C++ gets: names and bits, in the order of the top function."""
    layers = [(layer[what]["name"], layer[what]["size"] * layer[what]["width"])
              for layer in hls["layers"] for what in ("weight", "bias")]
    return [(hls["x"]["name"], hls["x"]["size"] * hls["x"]["width"]), *layers]


def _verilog(hls: dict) -> str:
    y, layers = hls["logits"], hls["layers"]
    directions = {"i": "input", "o": "output"}
    reads, values = "", [hls["x"]["name"]]
    for n, layer in enumerate(layers):
        weight, depth = layer["weight"], layer["depth"]
        bits = max(1, (depth - 1).bit_length())
        word = weight["size"] // depth * weight["width"]
        reads += READ.format(
            n=n, weight=weight["name"], depth=depth, bits=bits, word=word, all=depth * word,
            lsb=5 * n % 16)
        biases = [f"{layer['bias']['name']}_{k}" for k in range(layer["bias"]["size"])]
        values += [f"{weight['name']}_all", f"{{{', '.join(reversed(biases))}}}"]
    return VERILOG.format(
        name=hls["name"], x=hls["x"]["name"], memories=len(layers), reads=reads,
        latency_bits=LATENCY_MASK.bit_length(), y_width=y["size"] * y["width"],
        signature=", ".join([*(f"input bit [{bits - 1}:0] {name}"
                               for name, bits in _arguments(hls)),
                             f"output bit [{y['size'] * y['width'] - 1}:0] y"]),
        ports=",\n".join(f"  {directions[way]} [{width - 1}:0] {port}"
                         for port, (way, width) in hls["ports"].items()),
        arguments=", ".join([*values, "y"]),
        outputs="".join(OUTPUT.format(
            port=f"{y['name']}_{k}", lsb=k * y["width"], width=y["width"],
            copies=-(-y["width"] // 32)) for k in range(y["size"])))


def _shim(hls: dict, project: Path) -> str:
    x, y = hls["x"], hls["logits"]
    arrays = [x, y, *(layer[what] for layer in hls["layers"] for what in ("weight", "bias"))]
    depths = {layer["weight"]["name"]: layer["depth"] for layer in hls["layers"]}
    digest = sha256()
    for path in sorted((project / "firmware").rglob("*")):
        if path.is_file() and path.suffix in (".cpp", ".h", ".txt"):
            digest.update(path.read_bytes())
    return SHIM.format(
        digest=digest.hexdigest(), project=project, name=hls["name"],
        parameters=", ".join([*(f"const svBitVecVal* {name}_bits" for name, _ in _arguments(hls)),
                              f"svBitVecVal* {y['name']}_bits"]),
        arrays="\n".join(f"    static {a['type']} {a['name']}[{a['size']}];" for a in arrays),
        # An array without a memory is one word.
        setting="\n".join(
            f"    words({a['name']}, {a['name']}_bits, {a['size']}, {depths.get(a['name'], 1)});"
            for a in arrays if a is not y),
        call=", ".join(a["name"] for a in arrays), y_name=y["name"], y_size=y["size"],
        y_type=y["type"], y_words=-(-y["size"] * y["width"] // 32))
