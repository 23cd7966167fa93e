// A turn of rld_hopper.cu: the sums of a tile at one temperature, or at two of which one is the other's square.

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
