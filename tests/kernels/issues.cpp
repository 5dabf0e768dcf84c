// simulate.cu on the host, counting how often a warp issues each basic block of one kernel: g++ calls the function below
// at the start of every block. Everything is inlined, so that a block's address has the chain of its callers in the debug
// information, as a GPU's instruction has.
#include "device_on_host.h"

#define inline inline __attribute__((always_inline))
#include "emulated.cpp"
#undef inline

namespace {

using Address = std::uintptr_t;
constexpr unsigned WARP_SIZE = 32, THREADS = 256;

Address first_address;
unsigned n_addresses;
unsigned* trace[THREADS];  // of a thread: blocks in the order in which it ran them
std::size_t length[THREADS], room[THREADS];

// Lanes at the block that stands first go on and the others wait for them: where ways part, warps meet again at once.
void follow(unsigned warp, unsigned long long* issues) {
    std::size_t next[WARP_SIZE] = {};
    for (;;) {
        unsigned least = n_addresses;
        for (unsigned k = 0; k < WARP_SIZE; ++k) {
            const unsigned i = warp * WARP_SIZE + k;
            if (next[k] < length[i] && trace[i][next[k]] < least) least = trace[i][next[k]];
        }
        if (least == n_addresses) return;
        ++issues[least];
        for (unsigned k = 0; k < WARP_SIZE; ++k) {
            const unsigned i = warp * WARP_SIZE + k;
            next[k] += next[k] < length[i] && trace[i][next[k]] == least;
        }
    }
}

}  // namespace

extern "C" __attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc() {
    const Address offset = reinterpret_cast<Address>(__builtin_return_address(0)) - first_address;
    const unsigned i = device_on_host::current;
    if (offset >= n_addresses || i >= THREADS) return;
    if (length[i] == room[i]) {
        room[i] = 2 * room[i] + 4096;
        trace[i] = static_cast<unsigned*>(std::realloc(trace[i], room[i] * sizeof(unsigned)));
        if (trace[i] == nullptr) std::abort();
    }
    trace[i][length[i]++] = static_cast<unsigned>(offset);
}

// Traces from now on the function at these addresses alone.
extern "C" void watch_function(Address first, unsigned n) {
    first_address = first;
    n_addresses = n;
    for (std::size_t& n_blocks : length) n_blocks = 0;
}

// Adds the issues of all warps since then, by offset from the function's start of what follows a block's call.
extern "C" void add_issues(unsigned long long* issues) {
    for (unsigned warp = 0; warp < THREADS / WARP_SIZE; ++warp) follow(warp, issues);
    for (std::size_t& n_blocks : length) n_blocks = 0;
}
