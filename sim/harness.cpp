// Drives a Verilated core: clock, AXI4-Lite registers and AXI4-Streams, all loops in C++.
//
// Compiled together with the model (class Vtop) to a shared library for sim/device.py. One cycle
// is two evaluations: one with the inputs of the cycle and the clock low, which settles the
// combinational outputs, and one with the rising edge. VM_TRACE=1 adds a VCD waveform.
#include <cstdint>

#include "Vtop.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

// What a core may do wrong on m_axis; sim/device.py has the sentences.
enum Fault : int32_t { NONE, CHANGED, UNASKED, SILENT };

constexpr uint32_t AXIL_LIMIT = 1000000;    // cycles that an AXI4-Lite answer may take
constexpr int32_t AXIL_SILENT = -1;

struct Xorshift {                           // Marsaglia 2003, shifts 13, 7, 17
    uint64_t state = 1;
    void seed(uint64_t s) { state = s * 0x9E3779B97F4A7C15ull + 1; if (!state) state = 1; }
    bool below(uint32_t threshold) {        // true with probability threshold / 2**32
        if (!threshold) return false;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return uint32_t(state >> 32) < threshold;
    }
};

struct Core {
    VerilatedContext context;
    Vtop* model = nullptr;
#if VM_TRACE
    VerilatedVcdC* vcd = nullptr;
#endif
    uint64_t cycle = 0;
    uint64_t packets_in = 0, packets_out = 0;           // complete packets of this job
    int32_t fault = NONE;
    bool held = false, held_last = false;               // the word on offer in the last cycle
    uint32_t held_data = 0;

    // The stream job: beats to send, room for what comes back.
    const uint32_t* beats = nullptr;
    const uint16_t* users = nullptr;
    const uint8_t* lasts = nullptr;
    uint64_t n_beats = 0, sent = 0;
    bool offering = false, first_of_packet = true;
    uint32_t* out_data = nullptr;
    uint8_t* out_last = nullptr;
    uint64_t capacity = 0, received = 0;
    uint64_t* in_cycles = nullptr;                      // of each packet's first beat
    uint64_t* out_cycles = nullptr;                     // of each packet's last beat
    uint64_t job_in = 0, job_out = 0;
    uint32_t idle = 0, stall = 0;
    Xorshift idle_random, stall_random;

    void dump() {
#if VM_TRACE
        if (vcd) vcd->dump(context.time());
#endif
        context.timeInc(5);                             // 10 time units are one cycle
    }
    void settle() { model->clk = 0; model->eval(); dump(); }
    void edge() { model->clk = 1; model->eval(); dump(); ++cycle; }

    // The stream rule: a word on offer stays on offer, unchanged, until it is taken.
    void watch() {
        const bool valid = model->m_axis_tvalid;
        if (held && (!valid || model->m_axis_tdata != held_data
                     || bool(model->m_axis_tlast) != held_last) && !fault)
            fault = CHANGED;
        held = valid && !model->m_axis_tready;
        held_data = model->m_axis_tdata;
        held_last = model->m_axis_tlast;
    }

    // One cycle without stream transfers.
    void quiet_cycle() { settle(); watch(); edge(); }

    // One cycle of the stream job. Returns whether a beat moved on either side.
    bool stream_cycle() {
        if (!offering && sent < n_beats && !idle_random.below(idle)) {
            offering = true;
            model->s_axis_tdata = beats[sent];
            model->s_axis_tuser = users[sent];
            model->s_axis_tlast = lasts[sent];
        }
        model->s_axis_tvalid = offering;
        // Room is checked first, so that words beyond `capacity` stay on offer for the next job.
        model->m_axis_tready = received < capacity && !stall_random.below(stall);
        settle();
        watch();
        const bool taken = offering && model->s_axis_tready;
        const bool given = model->m_axis_tvalid && model->m_axis_tready;
        if (given) {
            const bool last = model->m_axis_tlast;
            out_data[received] = model->m_axis_tdata;
            out_last[received++] = last;
            if (packets_out >= packets_in && !fault) fault = UNASKED;
            if (last) {
                ++packets_out;
                out_cycles[job_out++] = cycle;
            }
        }
        if (taken) {
            if (first_of_packet) in_cycles[job_in++] = cycle;
            first_of_packet = lasts[sent];
            packets_in += lasts[sent];
            ++sent;
            offering = false;
        }
        edge();
        return taken || given;
    }

    void rest() {
        model->s_axis_tvalid = 0;
        model->m_axis_tready = 0;
    }
};

}  // namespace

// What Verilator's runtime asks for the time; nothing in a core does, and waveforms get theirs.
double sc_time_stamp() { return 0; }

extern "C" {

Core* core_create(const char* waves) {
    Core* core = new Core;
    core->context.traceEverOn(waves != nullptr);
    core->model = new Vtop{&core->context, "core"};
#if VM_TRACE
    if (waves) {
        core->vcd = new VerilatedVcdC;
        core->model->trace(core->vcd, 99);
        core->vcd->open(waves);
    }
#endif
    core->rest();
    return core;
}

void core_destroy(Core* core) {
#if VM_TRACE
    if (core->vcd) {
        core->vcd->close();
        delete core->vcd;
    }
#endif
    core->model->final();
    delete core->model;
    delete core;
}

uint64_t core_cycle(const Core* core) { return core->cycle; }

void core_idle(Core* core, uint64_t cycles) {
    for (uint64_t i = 0; i < cycles; ++i) core->quiet_cycle();
}

void core_reset(Core* core, uint32_t cycles) {
    core->rest();
    core->model->rst = 1;
    for (uint32_t i = 0; i < cycles; ++i) {
        core->held = false;                             // reset may withdraw a word
        core->quiet_cycle();
    }
    core->held = false;
    core->model->rst = 0;
    core->fault = NONE;
}

// Response of one write (0 OKAY, 2 SLVERR), or AXIL_SILENT.
int32_t core_write(Core* core, uint32_t address, uint32_t data, uint32_t strobe) {
    Vtop* m = core->model;
    m->s_axil_awaddr = address;
    m->s_axil_wdata = data;
    m->s_axil_wstrb = strobe;
    m->s_axil_awvalid = m->s_axil_wvalid = m->s_axil_bready = 1;
    for (uint32_t i = 0; i < AXIL_LIMIT; ++i) {
        core->settle();
        core->watch();
        const bool aw = m->s_axil_awvalid && m->s_axil_awready;
        const bool w = m->s_axil_wvalid && m->s_axil_wready;
        const bool b = m->s_axil_bvalid;
        const int32_t response = m->s_axil_bresp;
        core->edge();
        if (aw) m->s_axil_awvalid = 0;
        if (w) m->s_axil_wvalid = 0;
        if (b) {
            m->s_axil_bready = 0;
            return response;
        }
    }
    return AXIL_SILENT;
}

// Response of one read, or AXIL_SILENT.
int32_t core_read(Core* core, uint32_t address, uint32_t* data) {
    Vtop* m = core->model;
    m->s_axil_araddr = address;
    m->s_axil_arvalid = m->s_axil_rready = 1;
    for (uint32_t i = 0; i < AXIL_LIMIT; ++i) {
        core->settle();
        core->watch();
        const bool ar = m->s_axil_arvalid && m->s_axil_arready;
        const bool r = m->s_axil_rvalid;
        const int32_t response = m->s_axil_rresp;
        *data = m->s_axil_rdata;
        core->edge();
        if (ar) m->s_axil_arvalid = 0;
        if (r) {
            m->s_axil_rready = 0;
            return response;
        }
    }
    return AXIL_SILENT;
}

// `n` words through the window: write each point to `window`, read `window_data`.
int32_t core_window(Core* core, uint32_t window, uint32_t window_data, const uint32_t* points,
                    uint32_t* data, uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
        int32_t response = core_write(core, window, points[i], 0xF);
        if (!response) response = core_read(core, window_data, data + i);
        if (response) return response;
    }
    return 0;
}

// `n` words through the window: write each point to `window`, then its word to `window_data`.
int32_t core_poke(Core* core, uint32_t window, uint32_t window_data, const uint32_t* points,
                  const uint32_t* data, uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
        int32_t response = core_write(core, window, points[i], 0xF);
        if (!response) response = core_write(core, window_data, data[i], 0xF);
        if (response) return response;
    }
    return 0;
}

// Begin a stream job. The arrays must live until the job is over.
void core_stream(Core* core, const uint32_t* beats, const uint16_t* users, const uint8_t* lasts,
                 uint64_t n_beats, uint32_t* out_data, uint8_t* out_last, uint64_t capacity,
                 uint64_t* in_cycles, uint64_t* out_cycles, uint32_t idle, uint32_t stall,
                 uint64_t seed) {
    core->beats = beats;
    core->users = users;
    core->lasts = lasts;
    core->n_beats = n_beats;
    core->out_data = out_data;
    core->out_last = out_last;
    core->capacity = capacity;
    core->in_cycles = in_cycles;
    core->out_cycles = out_cycles;
    core->sent = core->received = core->job_in = core->job_out = 0;
    core->packets_in = core->packets_out = 0;           // nothing is under way between jobs
    core->fault = NONE;
    core->offering = false;
    core->first_of_packet = true;
    core->idle = idle;
    core->stall = stall;
    core->idle_random.seed(2 * seed);
    core->stall_random.seed(2 * seed + 1);
}

// Go on with the job until `stop` beats came back in all and, when that is all of them, every beat
// is sent; or until nothing moved for `patience` cycles. No cycle passes between two calls.
// progress: sent, received, packets begun, packets returned. Returns the fault.
int32_t core_run(Core* core, uint64_t stop, uint64_t patience, uint64_t* progress) {
    uint64_t silent = 0;
    while (!core->fault && (core->received < stop
                            || (stop == core->capacity && core->sent < core->n_beats))) {
        silent = core->stream_cycle() ? 0 : silent + 1;
        if (silent > patience) {
            core->fault = SILENT;
            break;
        }
    }
    if (core->fault || core->sent == core->n_beats) core->rest();
    progress[0] = core->sent;
    progress[1] = core->received;
    progress[2] = core->job_in;
    progress[3] = core->job_out;
    return core->fault;
}

}  // extern "C"
