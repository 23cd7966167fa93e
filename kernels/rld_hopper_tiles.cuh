// The warpgroups of rld_hopper.cu: one brings packed panels to shared memory, two turn products into sums.

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
                                some |= !(d * d >= NEAR_SHARE * (row_norms[i >> 1] + shared.columns[in_column]));
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
                            bool close = inside && !(acc[h][k] * acc[h][k] >= NEAR_SHARE * norms);
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
