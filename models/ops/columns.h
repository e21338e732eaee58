// Parts of all kernels: arrays (features, columns) with a sample or a sequence in each column, their products, and their
// transposition. The arithmetic of a column does not depend on the other columns or on their number.

#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "vector.h"

namespace {

constexpr float FLOOR = 1e-3F;  // models/gaussian.py
constexpr int64_t COLUMNS = 16;  // columns are padded to a multiple of these
constexpr int64_t ROWS = 24;  // rows of what products write to are padded to a multiple of these: of every tile's height

int64_t padded(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Zeros at first, aligned to a cache line.
class Array {
   public:
    explicit Array(int64_t size) {
        const size_t bytes = padded(std::max<int64_t>(size, 1) * 4, 64);
        data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
        std::memset(data_.get(), 0, bytes);
    }
    float* get() const { return data_.get(); }

   private:
    struct Free {
        void operator()(float* data) const { std::free(data); }
    };
    std::unique_ptr<float, Free> data_;
};

// A weight (rows, inner) in the order in which products read it: tiles of HEIGHT rows, each tile column by column.
struct Tiles {
    const float* data;
    int64_t rows, inner;
};

// The same, with its memory.
struct Packed {
    Array data;
    int64_t rows, inner;

    operator Tiles() const { return {data.get(), rows, inner}; }
};

// weight[row * row_stride + column * column_stride]; The last `turn` columns are read first. to: zeros.
void pack_into(const float* weight, int64_t rows, int64_t inner, int64_t row_stride, int64_t column_stride, int64_t turn,
               float* to) {
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = 0; column < inner; ++column) {
            const int64_t source = column < turn ? inner - turn + column : column - turn;
            to[(row / HEIGHT * inner + column) * HEIGHT + row % HEIGHT] =
                weight[row * row_stride + source * column_stride];
        }
    }
}

Packed pack(const float* weight, int64_t rows, int64_t inner, int64_t row_stride, int64_t column_stride,
            int64_t turn = 0) {
    Packed packed{Array(padded(rows, HEIGHT) * inner), padded(rows, HEIGHT), inner};
    pack_into(weight, rows, inner, row_stride, column_stride, turn, packed.data.get());
    return packed;
}

Packed pack_rows(const float* weight, int64_t rows, int64_t inner) {
    return pack(weight, rows, inner, inner, 1);
}

Packed pack_columns(const float* weight, int64_t rows, int64_t inner, int64_t turn = 0) {
    return pack(weight, inner, rows, 1, inner, turn);
}

template <int Width>
INLINE void tile(const float* weight, int64_t inner, const float* in, int64_t columns, const float* bias,
                 const float* add, float* out) {
    Float sum[HEIGHT][Width];
#pragma GCC unroll 8
    for (int row = 0; row < HEIGHT; ++row) {
#pragma GCC unroll 4
        for (int vector = 0; vector < Width; ++vector) {
            sum[row][vector] = add ? load(add + row * columns + vector * LANES) : all(bias ? bias[row] : 0.0F);
        }
    }
    for (int64_t k = 0; k < inner; ++k) {
        Float value[Width];
#pragma GCC unroll 4
        for (int vector = 0; vector < Width; ++vector) value[vector] = load(in + k * columns + vector * LANES);
#pragma GCC unroll 8
        for (int row = 0; row < HEIGHT; ++row) {
            const Float one = all(weight[k * HEIGHT + row]);
#pragma GCC unroll 4
            for (int vector = 0; vector < Width; ++vector) sum[row][vector] += one * value[vector];
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < HEIGHT; ++row) {
#pragma GCC unroll 4
        for (int vector = 0; vector < Width; ++vector) store(out + row * columns + vector * LANES, sum[row][vector]);
    }
}

// out = weight in, plus `add` (an array like out, or out itself), or plus `bias` (one number per row, padded).
INLINE void multiply(const Tiles& weight, const float* in, int64_t columns, const float* bias, const float* add,
                     float* out) {
    int64_t column = 0;
    for (; column + LANES * WIDTH <= columns; column += LANES * WIDTH) {
        for (int64_t row = 0; row < weight.rows; row += HEIGHT) {
            tile<WIDTH>(weight.data + row * weight.inner, weight.inner, in + column, columns,
                              bias ? bias + row : nullptr, add ? add + row * columns + column : nullptr,
                              out + row * columns + column);
        }
    }
    for (; column < columns; column += LANES) {
        for (int64_t row = 0; row < weight.rows; row += HEIGHT) {
            tile<1>(weight.data + row * weight.inner, weight.inner, in + column, columns,
                       bias ? bias + row : nullptr, add ? add + row * columns + column : nullptr,
                       out + row * columns + column);
        }
    }
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLES
#endif
#endif

#ifdef HAS_SHUFFLES
template <int Distance, int... Lane>
INLINE void exchange(Float& upper, Float& lower, std::integer_sequence<int, Lane...>) {
    const Float above = upper, under = lower;
    upper = __builtin_shufflevector(above, under, (Lane & Distance ? LANES + Lane - Distance : Lane)...);
    lower = __builtin_shufflevector(above, under, (Lane & Distance ? LANES + Lane : Lane + Distance)...);
}

// Each step of the recursion transposes blocks twice as large, by exchanging two of their quarters.
template <int Distance>
INLINE void transpose(Float* rows) {
    if constexpr (Distance < LANES) {
#pragma GCC unroll 16
        for (int row = 0; row < LANES; ++row) {
            if (!(row & Distance)) {
                exchange<Distance>(rows[row], rows[row + Distance], std::make_integer_sequence<int, LANES>());
            }
        }
        transpose<2 * Distance>(rows);
    }
}
#endif

// to[column * to_stride + row] = from[row * from_stride + column]
INLINE void transposed(const float* from, int64_t from_stride, int64_t rows, int64_t columns, int64_t to_stride, float* to) {
    constexpr int64_t SQUARE = LANES;
    for (int64_t row = 0; row < rows; row += SQUARE) {
        for (int64_t column = 0; column < columns; column += SQUARE) {
#ifdef HAS_SHUFFLES
            if (row + SQUARE <= rows && column + SQUARE <= columns) {
                Float square[LANES];
#pragma GCC unroll 16
                for (int one = 0; one < LANES; ++one) square[one] = load(from + (row + one) * from_stride + column);
                transpose<1>(square);
#pragma GCC unroll 16
                for (int one = 0; one < LANES; ++one) store(to + (column + one) * to_stride + row, square[one]);
                continue;
            }
#endif
            for (int64_t y = row; y < std::min(row + SQUARE, rows); ++y) {
                for (int64_t x = column; x < std::min(column + SQUARE, columns); ++x) {
                    to[x * to_stride + y] = from[y * from_stride + x];
                }
            }
        }
    }
}

// Arrays of callers, (sequences, ..., features) with a stride between sequences, to columns and back.
INLINE void read_columns(const float* from, int64_t stride, int64_t sequences, int64_t features, int64_t columns,
                         float* to) {
    transposed(from, stride, sequences, features, columns, to);
}

INLINE void write_columns(const float* from, int64_t columns, int64_t sequences, int64_t features, int64_t stride,
                          float* to) {
    transposed(from, columns, features, sequences, stride, to);
}

Array padded_copy(const float* from, int64_t size) {
    Array copy(padded(size, ROWS));
    std::memcpy(copy.get(), from, size * 4);
    return copy;
}

}  // namespace
