// Exact RLD on Hopper: a tile of distances becomes kernel sums without leaving the chip (sm_90a).
//
// The mathematics, the sums and the near pairs are those of rld_tiles.py, whose references these kernels must equal:
//
//     d_ij = sqrt(max(0, n_i + n_j - 2 x_i . x_j)),   e_ij = 2^(c_t d_ij)
//     kernel_sums      R_i = sum_j e_ij,  D_i = sum_j d_ij e_ij,  S = sum d_ij              (kernel_sums_reference)
//     affinity_sums    K_i = sum_j q_ij w_j,  W_i = the same over j of i's class,  q = e^2   (affinity_sums_reference)
//
// each over rows and over columns of the same tile. K is B + W there; the factor w_i is applied to the sums, in float64.
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
// Measured on an H100, both passes: 50,000 x 512 in 12 ms (Triton's kernels: 23 ms), 1,280,000 x 2048 in 15.3 s, 0.60 of
// the rate of products alone. What is left: exponentials and products of two tiles hardly overlap, for while wgmma holds
// the registers' ports, the other warps are dispatched half as fast (a tile takes 10,000 clocks and 620 a step of 64
// features); instructions are 12 % of the waiting, as a tile's code is 70 KiB.
//
// Every sum is written to a place of its own and added up afterward in a fixed order: no float atomics.


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
constexpr float NEAR = 1e-3f, TRIGGER = 1.01e-3f, FAR_AWAY = 1e15f;

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

// --- the machine -----------------------------------------------------------------------------------------------------

__device__ __forceinline__ u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(u32 barrier, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}

__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra DONE;\nbra AGAIN;\nDONE:\n}" ::"r"(barrier), "r"(parity) : "memory");
}

__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void add_one(u32 counter) {
    asm volatile("red.release.cta.shared::cta.add.u32 [%0], 1;" ::"r"(counter) : "memory");
}

// Until the counter has come to a value: unlike the phase of a barrier, it can be looked at as late as one likes.
__device__ __forceinline__ void wait_for(u32 counter, u32 value, int lane) {
    if (lane == 0) {
        u32 now;
        do {
            asm volatile("ld.acquire.cta.shared::cta.u32 %0, [%1];" : "=r"(now) : "r"(counter) : "memory");
        } while (now < value);
    }
    __syncwarp();
}

__device__ __forceinline__ void expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void bulk_copy(u32 to, const void *from, u32 bytes, u32 barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier) : "memory");
}

__device__ __forceinline__ void consumers_meet(int consumer) {
    asm volatile("barrier.cta.sync %0, 128;" ::"r"(consumer + 1) : "memory");
}

__device__ __forceinline__ bool any_of_consumers(int consumer, bool value) {
    u32 result;
    asm volatile(
        "{\n.reg .pred mine, all;\nsetp.ne.u32 mine, %1, 0;\nbarrier.cta.red.or.pred all, %2, 128, mine;\n"
        "selp.u32 %0, 1, 0, all;\n}" : "=r"(result) : "r"((u32)value), "r"(consumer + 1) : "memory");
    return result;
}

__device__ __forceinline__ float sqrt_of(float x) {
    float y;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Where a packed block lies, as wgmma wants to know it: rows of 128 bytes, swizzled, groups of 8 rows 1,024 bytes apart.
__device__ __forceinline__ u64 descriptor(u32 address) {
    return (u64)((address & 0x3FFFF) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}

// acc (64 x 128) = A B^T (+ acc), 16 features.
__device__ __forceinline__ void multiply(float (&acc)[64], u64 a, u64 b, int add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." INPUT "." INPUT " "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, p, 1, 1, 0, 0;\n}"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3]), "+f"(acc[4]), "+f"(acc[5]), "+f"(acc[6]),
          "+f"(acc[7]), "+f"(acc[8]), "+f"(acc[9]), "+f"(acc[10]), "+f"(acc[11]), "+f"(acc[12]), "+f"(acc[13]),
          "+f"(acc[14]), "+f"(acc[15]), "+f"(acc[16]), "+f"(acc[17]), "+f"(acc[18]), "+f"(acc[19]), "+f"(acc[20]),
          "+f"(acc[21]), "+f"(acc[22]), "+f"(acc[23]), "+f"(acc[24]), "+f"(acc[25]), "+f"(acc[26]), "+f"(acc[27]),
          "+f"(acc[28]), "+f"(acc[29]), "+f"(acc[30]), "+f"(acc[31]), "+f"(acc[32]), "+f"(acc[33]), "+f"(acc[34]),
          "+f"(acc[35]), "+f"(acc[36]), "+f"(acc[37]), "+f"(acc[38]), "+f"(acc[39]), "+f"(acc[40]), "+f"(acc[41]),
          "+f"(acc[42]), "+f"(acc[43]), "+f"(acc[44]), "+f"(acc[45]), "+f"(acc[46]), "+f"(acc[47]), "+f"(acc[48]),
          "+f"(acc[49]), "+f"(acc[50]), "+f"(acc[51]), "+f"(acc[52]), "+f"(acc[53]), "+f"(acc[54]), "+f"(acc[55]),
          "+f"(acc[56]), "+f"(acc[57]), "+f"(acc[58]), "+f"(acc[59]), "+f"(acc[60]), "+f"(acc[61]), "+f"(acc[62]),
          "+f"(acc[63])
        : "l"(a), "l"(b), "r"(add));
}

// --- where things are ------------------------------------------------------------------------------------------------

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

// Of N values a lane, N / 2 remain, each the sum over two lanes: the lane with the bit keeps the second half.
template <int N>
__device__ __forceinline__ void fold(float *v, int lane, int bit) {
    bool second = lane & bit;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
        float kept = second ? v[i + N / 2] : v[i], sent = second ? v[i] : v[i + N / 2];
        v[i] = kept + __shfl_xor_sync(0xffffffffu, sent, bit);
    }
}

// --- shared memory ---------------------------------------------------------------------------------------------------

// What a consumer keeps; s sums, t temperatures.
struct Shared {
    float *row_sums;     // (ROWS, s, 128)
    float *column_sums;  // (s, 128) of the tiles above one another
    float *columns;      // (1 + t, 128) norms and weights of the tile's columns
    float *scratch;      // (2, SLOTS) sums of a turn; those of the turn before may still be read
    double *totals;      // (4)
    int *slot;
};

__device__ constexpr int consumer_bytes(int s, int t) {
    return 4 * TILE * (ROWS * s + s + 1 + t) + 4 * 2 * SLOTS + 4 * 8 + 32;
}

__device__ __forceinline__ Shared shared_of(char *start, int s, int t) {
    float *row_sums = (float *)start, *column_sums = row_sums + ROWS * s * TILE, *columns = column_sums + s * TILE;
    float *scratch = columns + (1 + t) * TILE;
    double *totals = (double *)(scratch + 2 * SLOTS);
    return {row_sums, column_sums, columns, scratch, totals, (int *)(totals + 4)};
}

// --- a turn: one temperature, or two of which one is the other's square ------------------------------------------------

// The exponentials of the 8 elements of a thread in a group of 8 columns, one after the other: each takes some 20 clocks
// and 4 warps are all that there are to fill them.
__device__ __forceinline__ void exponentials(float (&e)[8], const float (&distance)[2][64], int g, float rate) {
#pragma unroll
    for (int i = 0; i < 8; ++i) e[i] = rate * distance[i >> 2][4 * g + (i & 3)];
    asm("ex2.approx.ftz.f32 %0, %0;\nex2.approx.ftz.f32 %1, %1;\nex2.approx.ftz.f32 %2, %2;\nex2.approx.ftz.f32 %3, %3;\n"
        "ex2.approx.ftz.f32 %4, %4;\nex2.approx.ftz.f32 %5, %5;\nex2.approx.ftz.f32 %6, %6;\nex2.approx.ftz.f32 %7, %7;\n"
        : "+f"(e[0]), "+f"(e[1]), "+f"(e[2]), "+f"(e[3]), "+f"(e[4]), "+f"(e[5]), "+f"(e[6]), "+f"(e[7]));
}

// Sums of a tile's exponentials: those of columns by warps, (4, SUMS, WIDTH), and those of rows, (SUMS, 128), behind.
// Exponentials are computed a group of columns ahead, column sums are folded a group behind.
template <int PASS, int TEMPERATURES>
__device__ __forceinline__ void sum_turn(const float (&distance)[2][64], float rate, const float *column_weights,
                                         const float (&row_weights)[8], float *scratch, int warp, int lane) {
    constexpr int SUMS = (PASS == 1 ? 2 : 1) * TEMPERATURES, AT_ONCE = 4 / SUMS, WIDTH = TILE + 8 * AT_ONCE;
    int mine = (lane & 16 ? 4 : 0) + (lane & 8 ? 2 : 0) + (lane & 4 ? 1 : 0);
    float *to = scratch + (warp * SUMS + mine / (2 * AT_ONCE)) * WIDTH + 8 * (mine / 2 % AT_ONCE) + 2 * (lane & 3) + (mine & 1);
    float rows[SUMS * 4] = {}, v[8], next[8];
    exponentials(next, distance, 0, rate);
#pragma unroll
    for (int g = 0; g < 16; ++g) {
        float e[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) e[i] = next[i];
        if (g < 15) exponentials(next, distance, g + 1, rate);
        if (g && g % AT_ONCE == 0) {
            fold<8>(v, lane, 16);
            fold<4>(v, lane, 8);
            fold<2>(v, lane, 4);
            to[8 * (g - AT_ONCE)] = v[0];
        }
#pragma unroll
        for (int s = 0; s < TEMPERATURES; ++s) {
            float2 w = {};
            if (PASS == 2) w = *(const float2 *)(column_weights + s * TILE + 8 * g + 2 * (lane & 3));
#pragma unroll
            for (int i = 0; i < 8 && s; ++i) e[i] *= e[i];
            if (PASS == 1) {
#pragma unroll
                for (int r = 0; r < 4; ++r) {
                    const float *d = &distance[r >> 1][4 * g + 2 * (r & 1)];
                    rows[8 * s + r] += e[2 * r] + e[2 * r + 1];
                    rows[8 * s + 4 + r] = fmaf(e[2 * r + 1], d[1], fmaf(e[2 * r], d[0], rows[8 * s + 4 + r]));
                }
#pragma unroll
                for (int c = 0; c < 2; ++c) {
                    int at = (2 * s * AT_ONCE + g % AT_ONCE) * 2 + c;
                    v[at] = (e[c] + e[2 + c]) + (e[4 + c] + e[6 + c]);
                    v[at + 2 * AT_ONCE] = fmaf(e[c], distance[0][4 * g + c], e[2 + c] * distance[0][4 * g + 2 + c]) +
                                          fmaf(e[4 + c], distance[1][4 * g + c], e[6 + c] * distance[1][4 * g + 2 + c]);
                }
            } else {
#pragma unroll
                for (int r = 0; r < 4; ++r) rows[4 * s + r] = fmaf(e[2 * r + 1], w.y, fmaf(e[2 * r], w.x, rows[4 * s + r]));
#pragma unroll
                for (int c = 0; c < 2; ++c)
                    v[(s * AT_ONCE + g % AT_ONCE) * 2 + c] =
                        fmaf(e[c], row_weights[4 * s], e[2 + c] * row_weights[4 * s + 1]) +
                        fmaf(e[4 + c], row_weights[4 * s + 2], e[6 + c] * row_weights[4 * s + 3]);
            }
        }
    }
    fold<8>(v, lane, 16);
    fold<4>(v, lane, 8);
    fold<2>(v, lane, 4);
    to[8 * (16 - AT_ONCE)] = v[0];
    fold<SUMS * 4>(rows, lane, 2);
    fold<SUMS * 2>(rows, lane, 1);
#pragma unroll
    for (int i = 0; i < SUMS; ++i) {
        int own = (lane & 2 ? SUMS * 2 : 0) + (lane & 1 ? SUMS : 0) + i;
        scratch[SLOTS - 4 * TILE + own / 4 * TILE + tile_row(warp, lane, own & 3)] = rows[i];
    }
}

// Add what `sum_turn` wrote to the sums of the row and the column that are the thread's own, from sum `first` on: R of the
// turn's temperatures and, t sums further, D; or K, and in a tile of one class also W, `copies` sums further.
template <int PASS, int TEMPERATURES>
__device__ __forceinline__ void add_turn(const Shared &shared, const float *scratch, int row_sum, int first, int t,
                                         int copies, int thread) {
    constexpr int SUMS = (PASS == 1 ? 2 : 1) * TEMPERATURES, WIDTH = TILE + 8 * (4 / SUMS);
    float of_rows[SUMS], of_columns[SUMS];
#pragma unroll
    for (int s = 0; s < SUMS; ++s) {
        of_rows[s] = scratch[SLOTS - 4 * TILE + s * TILE + thread];
        float warps[4];
#pragma unroll
        for (int w = 0; w < 4; ++w) warps[w] = scratch[(w * SUMS + s) * WIDTH + thread];
        of_columns[s] = (warps[0] + warps[1]) + (warps[2] + warps[3]);
    }
#pragma unroll
    for (int s = 0; s < SUMS; ++s) {
        int sum = PASS == 1 ? first + s / 2 + (s & 1) * t : first + s;
        shared.row_sums[(row_sum + sum) * TILE + thread] += of_rows[s];
        shared.column_sums[sum * TILE + thread] += of_columns[s];
        if (PASS == 2 && copies) {
            shared.row_sums[(row_sum + sum + copies) * TILE + thread] += of_rows[s];
            shared.column_sums[(sum + copies) * TILE + thread] += of_columns[s];
        }
    }
}

// --- the kernels -----------------------------------------------------------------------------------------------------

__device__ __forceinline__ void produce(const Task &task, const Place &place, char *stages, u32 full, u32 empty) {
    u32 count = 0;
    for (int column = place.first_column; column < place.last_column; ++column)
        for (int r = 0; r < ROWS; ++r)
            for (int consumer = 0; consumer < CONSUMERS; ++consumer) {
                int row = row_block_of(place, consumer, r);
                if (!wanted(task, row, column)) continue;
                const char *a = task.x + (size_t)row * task.steps * BLOCK_BYTES;
                const char *b = task.y + (size_t)column * task.steps * BLOCK_BYTES;
                for (int step = 0; step < task.steps; ++step, ++count) {
                    u32 stage = count % STAGES, turn = count / STAGES;
                    wait(empty + 8 * stage, (turn & 1) ^ 1);
                    u32 to = shared_address(stages) + stage * 2 * BLOCK_BYTES;
                    expect(full + 8 * stage, 2 * BLOCK_BYTES);
                    bulk_copy(to, a + (size_t)step * BLOCK_BYTES, BLOCK_BYTES, full + 8 * stage);
                    bulk_copy(to + BLOCK_BYTES, b + (size_t)step * BLOCK_BYTES, BLOCK_BYTES, full + 8 * stage);
                }
            }
}

// Inner products of a tile; `count` stages have gone before. Adding to `issued` lets the other consumer begin: stages are
// waited for by the parity of their turn, so that one turn is told from the next but one only if none is missed.
__device__ __forceinline__ void products(float (&acc)[2][64], const Task &task, u32 stages, u32 full, u32 empty,
                                         u32 issued, u32 count, int lane) {
    u32 before = 0;
#pragma unroll 1
    for (int step = 0; step < task.steps; ++step, ++count) {
        u32 stage = count % STAGES;
        wait(full + 8 * stage, count / STAGES & 1);
        u64 a = descriptor(stages + stage * 2 * BLOCK_BYTES), b = descriptor(stages + (stage * 2 + 1) * BLOCK_BYTES);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int k = 0; k < STEP / 16; ++k) {
            multiply(acc[0], a + 2 * k, b + 2 * k, step | k);
            multiply(acc[1], a + 512 + 2 * k, b + 2 * k, step | k);  // 64 rows of 128 bytes further
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        if (step) {
            asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
            if (lane == 0) arrive(empty + 8 * before);
        }
        before = stage;
    }
    if (lane == 0) add_one(issued);
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (lane == 0) arrive(empty + 8 * before);
}

template <int PASS>
__device__ __forceinline__ void consume(const Task &task, const Place &place, u32 stages, u32 full, u32 empty,
                                        u32 issued, const Shared &shared, int consumer) {
    int thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
    int sums = PASS == 1 || task.labels ? 2 * task.t : task.t;
    int row_width = blocks_of(task.n_rows) * TILE, column_width = blocks_of(task.n_columns) * TILE;
    // A thread has its own row and column of all sums, so that nothing needs to be waited for here.
    for (int s = 0; s < (ROWS + 1) * sums; ++s) shared.row_sums[s * TILE + thread] = 0;  // column_sums lie behind
    u32 count = 0, tile = 0;  // stages and tiles of both consumers so far
    double total = 0;
    int buffer = 0;
#pragma unroll 1
    for (int column = place.first_column; column < place.last_column; ++column)
#pragma unroll 1
        for (int r = 0; r < ROWS; ++r) {
            // Stages come tile by tile, the first consumer's before the second one's.
            int row = row_block_of(place, consumer, r);
            bool others = wanted(task, row_block_of(place, 1 - consumer, r), column);
            if (consumer && others) {
                wait_for(issued, 4 * ++tile, lane);
                count += task.steps;
            }
            if (wanted(task, row, column)) {
                // Brought here before the products, which take longer than the way.
                int j = column * TILE + thread;
                float own_norm = j < task.n_columns ? task.y_norm[j] : 0.0f;
                float own_weights[8];
                if (PASS == 2)
#pragma unroll
                    for (int t = 0; t < 8; ++t)
                        own_weights[t] = t < task.t && j < task.n_columns ? task.y_weight[t * task.n_columns + j] : 0.0f;
                float row_norms[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    int place_of_row = row * TILE + tile_row(warp, lane, i);
                    row_norms[i] = place_of_row < task.n_rows ? task.x_norm[place_of_row] : 0.0f;
                }
                float acc[2][64];
                products(acc, task, stages, full, empty, issued, count, lane);
                count += task.steps, ++tile;
                shared.columns[thread] = own_norm;
                if (PASS == 2)
#pragma unroll
                    for (int t = 0; t < 8; ++t)
                        if (t < task.t) shared.columns[(1 + t) * TILE + thread] = own_weights[t];
                consumers_meet(consumer);

                // Whether any pair is near is asked with the largest norms of the thread's rows and columns, which takes a
                // third of the instructions; of a tile that may hold one, each pair is asked by itself below.
                float least = 1e30f, sum = 0, row_most = fmaxf(fmaxf(row_norms[0], row_norms[1]), fmaxf(row_norms[2], row_norms[3]));
                float column_most = 0;
#pragma unroll
                for (int g = 0; g < 16; ++g) {
                    float2 n = *(const float2 *)(shared.columns + 8 * g + 2 * (lane & 3));
                    column_most = fmaxf(column_most, fmaxf(n.x, n.y));
#pragma unroll
                    for (int i = 0; i < 8; ++i) {
                        int h = i >> 2, k = 4 * g + (i & 3);
                        float square = fmaf(-2.0f, acc[h][k], row_norms[i >> 1] + (i & 1 ? n.y : n.x));
                        least = fminf(least, square);
                        acc[h][k] = sqrt_of(square);  // not a number where rounding made it negative: such a pair is near
                        if (PASS == 1) sum += acc[h][k];
                    }
                }
                bool near = alike(any_of_consumers(consumer, least < TRIGGER * (row_most + column_most)));
                bool ragged = (row + 1) * TILE > task.n_rows || (column + 1) * TILE > task.n_columns;
                if (near || ragged || (task.diagonal && row == column)) {
                    int slot = -1;
                    bool some = false;
                    if (near) {
#pragma unroll
                        for (int g = 0; g < 16; ++g)
#pragma unroll
                            for (int i = 0; i < 8; ++i) {
                                float d = acc[i >> 2][4 * g + (i & 3)];
                                int in_column = 8 * g + 2 * (lane & 3) + (i & 1);
                                some |= !(d * d >= NEAR * (row_norms[i >> 1] + shared.columns[in_column]));
                            }
                        near = alike(any_of_consumers(consumer, some));
                    }
                    if (near) {
                        if (thread == 0) {
                            slot = atomicAdd(task.near_count, 1);
                            if (slot < task.capacity) {
                                task.near_places[2 * slot] = row;
                                task.near_places[2 * slot + 1] = column;
                            }
                            *shared.slot = slot;
                        }
                        consumers_meet(consumer);
                        slot = alike(*shared.slot < task.capacity ? *shared.slot : -1);
                    }
                    sum = 0;
#pragma unroll
                    for (int g = 0; g < 16; ++g)
#pragma unroll
                        for (int i = 0; i < 8; ++i) {
                            int h = i >> 2, k = 4 * g + (i & 3);
                            int in_row = tile_row(warp, lane, i >> 1), in_column = 8 * g + 2 * (lane & 3) + (i & 1);
                            int a = row * TILE + in_row, b = column * TILE + in_column;
                            bool inside = a < task.n_rows && b < task.n_columns && (!task.diagonal || a < b);
                            float norms = row_norms[i >> 1] + shared.columns[in_column];
                            bool close = inside && !(acc[h][k] * acc[h][k] >= NEAR * norms);
                            if (slot >= 0) task.near_masks[((size_t)slot * TILE + in_row) * TILE + in_column] = close;
                            bool counts = inside && !close;
                            sum += counts ? acc[h][k] : 0.0f;
                            acc[h][k] = counts ? acc[h][k] : FAR_AWAY;
                        }
                }
                total += sum;

                // Which sums the tile's exponentials fall to: all alike, or those within classes in a second round.
                int within = 0, mixed = 0;
                if (PASS == 2 && task.labels) {
                    int x_low = task.x_code[row * TILE], x_high = task.x_code[min(task.n_rows, (row + 1) * TILE) - 1];
                    int y_low = task.y_code[column * TILE];
                    int y_high = task.y_code[min(task.n_columns, (column + 1) * TILE) - 1];
                    within = x_low == x_high && y_low == y_high && x_low == y_low && x_low >= 0;
                    mixed = !within && x_low <= y_high && y_low <= x_high && min(x_high, y_high) >= 0;
                    within = alike(within);
                    mixed = alike(mixed);
                }
#pragma unroll 1
                for (int round = 0; round < (mixed ? 2 : 1); ++round) {
                    if (round) {
#pragma unroll
                        for (int g = 0; g < 16; ++g)
#pragma unroll
                            for (int i = 0; i < 8; ++i) {
                                int a = row * TILE + tile_row(warp, lane, i >> 1);
                                int b = column * TILE + 8 * g + 2 * (lane & 3) + (i & 1);
                                int code = task.x_code[min(a, task.n_rows - 1)];
                                bool same = code >= 0 && code == task.y_code[min(b, task.n_columns - 1)];
                                int h = i >> 2, k = 4 * g + (i & 3);
                                acc[h][k] = same ? acc[h][k] : FAR_AWAY;
                            }
                    }
#pragma unroll 1
                    for (int turn = 0; turn < task.n_turns; ++turn) {
                        int first = task.turns >> 8 * turn & 255, temperatures = (task.turns >> 8 * (turn + 1) & 255) - first;
                        float rate = PASS == 1 ? task.rates[first] : 2 * task.rates[first];
                        const float *weights = shared.columns + (1 + first) * TILE;
                        float *scratch = shared.scratch + buffer * SLOTS;
                        buffer ^= 1;
                        float row_weights[8] = {};
                        if (PASS == 2) {
#pragma unroll
                            for (int i = 0; i < 8; ++i) {
                                int a = row * TILE + tile_row(warp, lane, i & 3);
                                if (a < task.n_rows && i / 4 < temperatures)
                                    row_weights[i] = task.x_weight[(first + i / 4) * task.n_rows + a];
                            }
                        }
                        int copies = within ? task.t : 0;
                        if (temperatures == 2) {
                            sum_turn<PASS, 2>(acc, rate, weights, row_weights, scratch, warp, lane);
                            consumers_meet(consumer);
                            add_turn<PASS, 2>(shared, scratch, r * sums, first + round * task.t, task.t, copies, thread);
                        } else {
                            sum_turn<PASS, 1>(acc, rate, weights, row_weights, scratch, warp, lane);
                            consumers_meet(consumer);
                            add_turn<PASS, 1>(shared, scratch, r * sums, first + round * task.t, task.t, copies, thread);
                        }
                    }
                }
                if (r == ROWS - 1 || !wanted(task, row + 1, column)) {
                    size_t group = place.row_group * CONSUMERS + consumer;
                    for (int s = 0; s < sums; ++s) {
                        task.column_sums[(group * sums + s) * column_width + column * TILE + thread] =
                            shared.column_sums[s * TILE + thread];
                        shared.column_sums[s * TILE + thread] = 0;
                    }
                }
            }
            if (!consumer && others) {
                wait_for(issued, 4 * ++tile, lane);
                count += task.steps;
            }
        }
    int strip = place.first_column / task.run;
    for (int r = 0; r < ROWS; ++r) {
        int row = row_block_of(place, consumer, r);
        if (row >= blocks_of(task.n_rows)) continue;
        for (int s = 0; s < sums; ++s)
            task.row_sums[((size_t)strip * sums + s) * row_width + row * TILE + thread] =
                shared.row_sums[(r * sums + s) * TILE + thread];
    }
    if (PASS == 1) {
#pragma unroll
        for (int bit = 16; bit; bit >>= 1) total += __shfl_xor_sync(0xffffffffu, total, bit);
        if (lane == 0) shared.totals[warp] = total;
        consumers_meet(consumer);
        if (thread == 0) {
            double *all = shared.totals;
            task.distance_sums[blockIdx.x * CONSUMERS + consumer] = (all[0] + all[1]) + (all[2] + all[3]);
        }
    }
}

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
