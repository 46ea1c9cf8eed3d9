"""AXI4-Lite registers of a core."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.registers import CONSTANT, table

__all__ = ["AXIL_MEMBERS", "Registers"]

OKAY, SLVERR = 0b00, 0b10
AXIL_MEMBERS = {
    "axil_awaddr": In(8), "axil_awvalid": In(1), "axil_awready": Out(1),
    "axil_wdata": In(32), "axil_wstrb": In(4), "axil_wvalid": In(1),
    "axil_wready": Out(1), "axil_bresp": Out(2), "axil_bvalid": Out(1),
    "axil_bready": In(1), "axil_araddr": In(8), "axil_arvalid": In(1),
    "axil_arready": Out(1), "axil_rdata": Out(32), "axil_rresp": Out(2),
    "axil_rvalid": Out(1), "axil_rready": In(1),
}


class Registers(wiring.Component):
    """The registers of :func:`firmware_models.registers.table` behind an AXI4-Lite port.

    Reads and writes do not wait for each other; one of each is under way at a time. Byte strobes
    are honoured, and address bits 1:0 ignored. An address without a register reads 0 with SLVERR;
    a write there or to a read-only register changes nothing and gives SLVERR.

    Latency: a write answers 2 cycles after address and data are both valid, a read 2 cycles after
    its address. Throughput: one write and one read per 3 cycles. Back-pressure: `axil_bvalid`,
    `axil_rvalid` and their words are held until taken.

    Every output of the bus comes from a flip-flop, as AXI asks for: no input reaches one within a
    cycle. `axil_awready`, `axil_wready` and `axil_arready` are low until the master is valid,
    which saves the address and data registers.

    Parameters
    ----------
    learning : bool
        Whether the registers of a learning core are present.
    rules : tuple of {"np", "es"}
    options : tuple of str
        Whose registers.
    build : int
        What register `build` reads.

    Members
    -------
    axil_aw*, axil_w*, axil_b*, axil_ar*, axil_r*
        AXI4-Lite, 8 address bits, 32 data bits, without `prot`.
    <register>_<field> : ``Out(width)`` of a rw field, ``In(width)`` of a ro or w1c field
        Named only ``<register>`` where the field is called `value`.
    <register>_write : ``Out(1)``
        Of each rw register: high for the one cycle in which a written value is first visible.
        Not raised by a write without strobes.
    <register>_<field>_clear : ``Out(1)``
        Of each w1c field: high for one cycle after a 1 was written to it.
    load_request, load_ready, load_refused, load_data
        With a `window_data` of access "port": a write of all its bytes holds the request, with its
        word, until ``load_ready``, and gives SLVERR if ``load_refused``. A write of some of its
        bytes gives SLVERR and requests nothing.
    window_request : ``Out(1)``, window_ready : ``In(1)``, window_data : ``In(32)``
        Learning cores: a read of `window_data` holds the request until `window_ready`, and
        returns what `window_data` is in that cycle.
    """

    def __init__(self, learning: bool, rules: tuple[str, ...] = ("np",),
                 options: tuple[str, ...] = (), build: int = 0):
        found = table(learning, rules, options, build)
        self.constants = [r for r in found if r.name in CONSTANT]
        self.registers = [r for r in found if r.name not in CONSTANT]
        self.learning = learning
        members = dict(AXIL_MEMBERS)
        for register in self.registers:
            for field in register.fields:
                flow = Out if register.access == "rw" else In
                init = {"init": field.reset} if register.access == "rw" else {}
                members[member(register, field)] = flow(field.width, **init)
                if register.access == "w1c":
                    if field.width != 1:
                        raise ValueError(f"{register.name}.{field.name}: a w1c field has 1 bit, "
                                         f"not {field.width}")
                    members[f"{member(register, field)}_clear"] = Out(1)
            if register.access == "rw":
                members[f"{register.name}_write"] = Out(1)
        self.loads = any(register.access == "port" for register in self.registers)
        if self.loads:
            members |= {"load_request": Out(1), "load_data": Out(32), "load_ready": In(1),
                        "load_refused": In(1)}
        if learning:
            members |= {"window_request": Out(1), "window_ready": In(1)}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m):
        accept = Signal()
        m.d.comb += [self.axil_awready.eq(accept), self.axil_wready.eq(accept)]
        start = self.axil_awvalid & self.axil_wvalid & ~accept & ~self.axil_bvalid
        refused = Signal()
        m.d.sync += accept.eq(start & self._load(m, start, refused) if self.loads else start)
        with m.If(self.axil_bready):
            m.d.sync += self.axil_bvalid.eq(0)
        with m.If(accept):
            m.d.sync += [self.axil_bvalid.eq(1), self.axil_bresp.eq(SLVERR)]

        # Pulses are registers that default to 0; the last assignment wins.
        for register in self.registers:
            if register.access == "rw":
                m.d.sync += getattr(self, f"{register.name}_write").eq(0)
            elif register.access == "w1c":
                for field in register.fields:
                    m.d.sync += getattr(self, f"{member(register, field)}_clear").eq(0)

        with m.If(accept), m.Switch(self.axil_awaddr[2:]):
            for register in self.registers:
                if register.access == "ro":
                    continue
                with m.Case(register.offset >> 2):
                    if register.access == "port":
                        m.d.sync += self.axil_bresp.eq(Mux(refused, SLVERR, OKAY))
                        continue
                    m.d.sync += self.axil_bresp.eq(OKAY)
                    if register.access == "rw":
                        m.d.sync += getattr(self, f"{register.name}_write").eq(
                            self.axil_wstrb.any())
                    for field in register.fields:
                        self._write_field(m, register, field)

    def _load(self, m, start, refused):
        """Ask for a write behind `window_data`; return whether the write on offer may be taken.

        Address and data stay on offer until the core is done, so that nothing has to keep them.
        """
        offset = next(r.offset for r in self.registers if r.access == "port")
        whole, here = self.axil_wstrb.all(), self.axil_awaddr[2:] == offset >> 2
        m.d.comb += [
            refused.eq(~whole | self.load_refused),
            self.load_request.eq(start & here & whole),
            self.load_data.eq(self.axil_wdata),
        ]
        return ~here | refused | self.load_ready

    def _write_field(self, m, register, field):
        """Bits of a field byte by byte, so that a strobe is a clock enable and costs no mux."""
        name, end = member(register, field), field.lsb + field.width
        for byte in range(field.lsb // 8, (end - 1) // 8 + 1):
            low, high = max(field.lsb, 8 * byte), min(end, 8 * byte + 8)
            with m.If(self.axil_wstrb[byte]):
                if register.access == "w1c":
                    m.d.sync += getattr(self, f"{name}_clear").eq(self.axil_wdata[low])
                else:
                    value = getattr(self, name)
                    m.d.sync += value[low - field.lsb:high - field.lsb].eq(
                        self.axil_wdata[low:high])

    def _read(self, m):
        start, done = Signal(), Signal(init=1)
        data = Signal(32)
        known = Signal()
        m.d.comb += start.eq(self.axil_arvalid & ~self.axil_arready & ~self.axil_rvalid)

        address = self.axil_araddr[2:]
        words = {register.offset >> 2: register.fields[0].reset for register in self.constants}
        for register in self.registers:
            number = register.offset >> 2
            words[number] = word = Signal(32, name=f"{register.name}_word")
            for field in register.fields:
                m.d.comb += word[field.lsb:field.lsb + field.width].eq(
                    getattr(self, member(register, field)))
            if register.name == "window_data":
                with m.If(address == number):
                    m.d.comb += [self.window_request.eq(start), done.eq(self.window_ready)]
        m.d.comb += [data.eq(selected(words, address)),
                     known.eq(Cat(address == number for number in words).any())]

        # The data is kept one cycle before `arready`, so that only one cycle of the window counts.
        m.d.sync += self.axil_arready.eq(start & done)
        with m.If(start & done):
            m.d.sync += [self.axil_rdata.eq(Mux(known, data, 0)),
                         self.axil_rresp.eq(Mux(known, OKAY, SLVERR))]
        with m.If(self.axil_arready):
            m.d.sync += self.axil_rvalid.eq(1)
        with m.Elif(self.axil_rready):
            m.d.sync += self.axil_rvalid.eq(0)


def member(register, field) -> str:
    """Name of the component's member for a field."""
    return register.name if field.name == "value" else f"{register.name}_{field.name}"



def selected(words: dict, address):
    """Word of an address, by a tree of multiplexers: Yosys takes 50 LUTs less for it than for a
    comparison with each address. Addresses without a word give that of another.
    """
    if len(words) == 1:
        return next(iter(words.values()))
    below = address[:-1]
    low, high = ({number & (1 << len(below)) - 1: word for number, word in words.items()
                  if number >> len(below) == half} for half in (0, 1))
    if not low or not high:
        return selected(low or high, below)
    return Mux(address[-1], selected(high, below), selected(low, below))
