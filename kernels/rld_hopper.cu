// Exact RLD on Hopper: a tile of distances becomes kernel sums without leaving the chip (sm_90a).
//
// The kernels must equal the functions of their names in rld_reference.py; the mathematics, the sums and the near pairs
// are those of rld_tiles.py:
//
//     d_ij = sqrt(max(0, n_i + n_j - 2 x_i . x_j)),   e_ij = 2^(c_t d_ij)
//     pass 1, kernel_sums      R_i = sum_j e_ij,  D_i = sum_j d_ij e_ij,  S = sum d_ij
//     pass 2, affinity_sums    K_i = sum_j q_ij w_j,  W_i = the same over j of i's class,  q = e^2
//
// each over rows and over columns of the same tile. K is B + W there; the factor w_i is applied to the sums, in float64.
// FLOPs: 2 d a pair and pass, 2 n^2 d in all. Bytes from memory: 2 d a point and panel, 4 a sum and group of tiles.
//
// Work. Three warpgroups: one thread of the first brings panels to shared memory, the two others compute a tile of
// 128 x 128 each, out of step, so that the products of one (wgmma) run beside the exponentials of the other. A consumer
// takes ROWS = 2 blocks of rows through `run` blocks of columns; sums over rows stay in shared memory meanwhile, sums
// over columns are written once for two tiles.
//
// Operands lie packed (`pack`): blocks of 128 points x 64 features, 16 KiB in one piece, in the order of bytes that
// wgmma wants (rows of 128 bytes, 16-byte chunk c of row r at c ^ (r & 7)). So a block comes by one bulk copy and needs
// neither a tensor map nor an address calculation. 32 KiB a step of 128 x 128 x 64: 64 bytes a clock from L2 if the
// products ran at their full rate, of which L2 gives about three quarters.
//
// Instructions an element (two pairs of temperatures, one of each pair the other's square, and a single one): 5 for the
// distance; 5.75 for a temperature in pass 1 (4.75 for a square), 4 and 3 in pass 2; sums over columns are folded: 8
// values of 8 lanes become one value a lane in 7 shuffles, 1.75 instructions an element and temperature. About 41 in
// pass 1, 26 in pass 2: 5,200 and 3,300 clocks a tile if every slot were filled, beside 8 d clocks of products.
//
// Measured on an H100, both passes at five temperatures: 50,000 x 512 in 12.1 ms, 1,280,000 x 2048 in 15.3 s.
//
// Every sum is written to a place of its own and added up afterward in a fixed order: no float atomics.
//
// rld_hopper.py puts the included files in their places, compiles with BF16 (0 or 1) and NEAR (the share of n_i + n_j below
// which d^2 is near) defined, and launches.

typedef unsigned long long u64;
typedef unsigned int u32;

constexpr int TILE = 128;          // rows and columns of a tile
constexpr int STEP = 64;           // features of a stage
constexpr int STAGES = 4;
constexpr int BLOCK_BYTES = TILE * STEP * 2;
constexpr int ROWS = 2;            // blocks of rows of a consumer
constexpr int CONSUMERS = 2;
constexpr int GROUP = 8;           // CTAs whose rows go through the columns together
constexpr int SLOTS = 4 * 4 * 136 + 4 * TILE;  // floats of a turn's sums: of columns, by warps, padded; of rows
constexpr float NEAR_SHARE = NEAR, TRIGGER = 1.01 * NEAR, FAR_AWAY = 1e15f;

#if BF16
#define INPUT "bf16"
#else
#define INPUT "f16"
#endif

struct Task {
    const char *x, *y;                       // packed panels
    const float *x_norm, *y_norm;            // (n_rows), (n_columns)
    const float *x_weight, *y_weight;        // (t, n_rows), (t, n_columns); pass 2
    const int *x_code, *y_code;              // class codes, ascending; pass 2 with labels
    const float *rates;                      // (t) c_t
    u64 turns;                               // first temperature of each turn, a byte each; a turn has one or two
    float *row_sums;                         // (strips, sums, row_blocks * 128)
    float *column_sums;                      // (row groups, sums, column_blocks * 128)
    double *distance_sums;                   // (CTAs * CONSUMERS)
    signed char *near_masks;                 // (capacity, 128, 128)
    int *near_places;                        // (capacity, 2) blocks of rows and of columns
    int *near_count;
    int capacity, n_rows, n_columns, steps, t, n_turns, run, diagonal, labels;
};

#include "rld_hopper_machine.cuh"

__device__ __forceinline__ int blocks_of(int n) { return (n + TILE - 1) / TILE; }

// The compiler takes what comes from memory or the number of a thread as different in each thread, and a branch on it as
// one that parts the warp: shuffles behind it then cost twice and nothing moves past them. These are alike in a warp.
__device__ __forceinline__ int alike(int value) { return __shfl_sync(0xffffffffu, value, 0); }

// What a CTA works on: the first block of rows of its consumers, and its blocks of columns.
struct Place {
    int row_group, first_column, last_column;
};

__device__ __forceinline__ Place place_of(const Task &task) {
    int groups = (blocks_of(task.n_rows) + ROWS * CONSUMERS - 1) / (ROWS * CONSUMERS);
    int columns = blocks_of(task.n_columns), strips = (columns + task.run - 1) / task.run;
    int start = blockIdx.x / (GROUP * strips) * GROUP, size = min(groups - start, GROUP);
    int within = blockIdx.x % (GROUP * strips), strip = within / size;
    return {start + within % size, strip * task.run, min(columns, (strip + 1) * task.run)};
}

__device__ __forceinline__ int row_block_of(const Place &place, int consumer, int r) {
    return (place.row_group * CONSUMERS + consumer) * ROWS + r;
}

// Whether a tile holds any pair i < j.
__device__ __forceinline__ bool wanted(const Task &task, int row_block, int column_block) {
    return row_block < blocks_of(task.n_rows) && (!task.diagonal || column_block >= row_block);
}

// Row of the tile that a thread's r-th row is (of 4), r = 2 * half + 1 where it is one of the lower eight.
__device__ __forceinline__ int tile_row(int warp, int lane, int r) {
    return (r >> 1) * 64 + warp * 16 + (lane >> 2) + 8 * (r & 1);
}

#include "rld_hopper_turn.cuh"
#include "rld_hopper_tiles.cuh"

template <int PASS>
__device__ __forceinline__ void run_task(const Task &task) {
    extern __shared__ __align__(1024) char memory[];
    char *barriers = memory + STAGES * 2 * BLOCK_BYTES;
    u32 full = shared_address(barriers), empty = full + 8 * STAGES, issued = empty + 8 * STAGES;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            barrier_init(full + 8 * stage, 1);
            barrier_init(empty + 8 * stage, 4);  // the warps of one consumer
        }
        *(u32 *)(barriers + 2 * 8 * STAGES) = 0;
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    Place place = place_of(task);
    int group = alike(threadIdx.x / 128);
    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == 0) produce(task, place, memory, full, empty);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
        int consumer = group - 1, sums = PASS == 1 || task.labels ? 2 * task.t : task.t;
        char *own = barriers + 128 + consumer * consumer_bytes(sums, task.t);
        consume<PASS>(task, place, shared_address(memory), full, empty, issued, shared_of(own, sums, task.t), consumer);
    }
}

// Bytes of shared memory: 2 * STAGES blocks, 128 for barriers, and consumer_bytes(sums, t) twice (rld_hopper.py).

extern "C" __global__ __launch_bounds__(128 * (CONSUMERS + 1), 1) void kernel_sums(
    const char *x, const char *y, const float *x_norm, const float *y_norm, const float *rates, u64 turns,
    float *row_sums, float *column_sums, double *distance_sums, signed char *near_masks, int *near_places,
    int *near_count, int capacity, int n_rows, int n_columns, int steps, int t, int n_turns, int run, int diagonal) {
    Task task = {x, y, x_norm, y_norm, nullptr, nullptr, nullptr, nullptr, rates, turns, row_sums, column_sums,
                 distance_sums, near_masks, near_places, near_count, capacity, n_rows, n_columns, steps, t, n_turns,
                 run, diagonal, 0};
    run_task<1>(task);
}

extern "C" __global__ __launch_bounds__(128 * (CONSUMERS + 1), 1) void affinity_sums(
    const char *x, const char *y, const float *x_norm, const float *y_norm, const float *x_weight,
    const float *y_weight, const int *x_code, const int *y_code, const float *rates, u64 turns,
    float *row_sums, float *column_sums, signed char *near_masks, int *near_places, int *near_count, int capacity,
    int n_rows, int n_columns, int steps, int t, int n_turns, int run, int diagonal, int labels) {
    Task task = {x, y, x_norm, y_norm, x_weight, y_weight, x_code, y_code, rates, turns, row_sums, column_sums,
                 nullptr, near_masks, near_places, near_count, capacity, n_rows, n_columns, steps, t, n_turns,
                 run, diagonal, labels};
    run_task<2>(task);
}

// Points (n, 8 * chunks) of 2 bytes a number to packed blocks, zeros beyond the last: a thread moves 16 bytes.
extern "C" __global__ void pack(const uint4 *points, uint4 *packed, int n, int chunks, long long total) {
    for (long long o = blockIdx.x * (long long)blockDim.x + threadIdx.x; o < total; o += gridDim.x * (long long)blockDim.x) {
        int place = o & 7, row = o >> 3 & 127;
        long long block = o >> 10;
        int steps = chunks / 8, step = block % steps;
        long long point = block / steps * TILE + row;
        packed[o] = point < n ? points[point * chunks + step * 8 + (place ^ (row & 7))] : make_uint4(0, 0, 0, 0);
    }
}
