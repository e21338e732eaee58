// The words of the random number generator Philox4x32-10: the kernel of models/ops/philox.py.

#include <cstdint>

extern "C" {

// words: (count, 4 blocks), of the counters (block, row, step, stream | upper half of step << 8), rows below 2^32.
// steps: one per row, or one for all rows if one_step.
void sensorium_philox(const int64_t* rows, const int64_t* steps, int64_t one_step, int64_t count, int64_t blocks,
                      uint32_t stream, uint32_t low, uint32_t high, int64_t* words) {
    for (int64_t row = 0; row < count; ++row) {
        const int64_t step = steps[one_step ? 0 : row];
        const uint32_t third = static_cast<uint32_t>(step), fourth = stream | static_cast<uint32_t>(step >> 32) << 8;
        for (int64_t block = 0; block < blocks; ++block, words += 4) {
            uint32_t a = static_cast<uint32_t>(block), b = static_cast<uint32_t>(rows[row]), c = third, d = fourth;
            uint32_t first = low, second = high;
            for (int round = 0; round < 10; ++round) {
                const uint64_t left = uint64_t{a} * 0xD2511F53U, right = uint64_t{c} * 0xCD9E8D57U;
                a = static_cast<uint32_t>(right >> 32) ^ b ^ first;
                b = static_cast<uint32_t>(right);
                c = static_cast<uint32_t>(left >> 32) ^ d ^ second;
                d = static_cast<uint32_t>(left);
                first += 0x9E3779B9U;
                second += 0xBB67AE85U;
            }
            words[0] = a, words[1] = b, words[2] = c, words[3] = d;
        }
    }
}
}
