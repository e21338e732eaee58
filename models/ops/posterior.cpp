// The joint posterior of a trained MM-VAE with a product of experts: the CPU kernel of models/ops/posterior.py.
//
// B samples, Z latent features, M modalities of D numbers, counts or categories each; encoders are fully connected.

#include "dense.h"

namespace {

constexpr float NORM_EPSILON = 1e-5F;  // nn.LayerNorm's default

enum Kind : int64_t { VALUES, CATEGORIES, VECTORS };  // categories as one-hot vectors, or with an embedding

struct Modality {
    int64_t kind;
    Standardisation standardisation;  // of categories only their number
    bool normalised;  // LayerNorm in front of every activation
    int64_t activation, layers;
    const int64_t* widths;  // of the input, the hidden layers and the output
    const void* values;  // (B, D) floats, (B) categories, or null
    const uint8_t* given;  // (B)
    const float* table;  // the first layer's weight (out, categories), or the embedding (categories, out)

    bool looks_up() const { return kind == CATEGORIES || kind == VECTORS; }
    // Layers whose weights are packed: the first of one-hot categories is looked up.
    int64_t first() const { return kind == CATEGORIES ? 1 : 0; }
    int64_t widest() const { return *std::max_element(widths + first(), widths + layers + 1); }
    bool normalises(int64_t layer) const { return normalised && layer + 1 < layers; }
    // Floats of a layer in the packed weights: bias, scale and shift of the LayerNorm, weight.
    int64_t bias_size(int64_t layer) const { return padded(widths[layer + 1], ROWS); }
    int64_t norm_size(int64_t layer) const { return normalises(layer) ? 2 * widths[layer + 1] : 0; }
    int64_t weight_size(int64_t layer) const {
        return layer < first() ? 0 : padded(widths[layer + 1], HEIGHT) * widths[layer];
    }
};

struct Model {
    int64_t latent;
    std::vector<Modality> modalities;

    // plan: Z, M, of every modality kind, D, S, log1p, normalised, activation, layers and layers + 1 widths.
    // in: of every modality values, given, offset, scale, table.
    Model(const int64_t* plan, const void* const* in) : latent(plan[0]), modalities(plan[1]) {
        const int64_t* next = plan + 2;
        for (Modality& m : modalities) {
            m.kind = next[0];
            m.standardisation = {next[1], next[2], next[3] != 0, nullptr, nullptr};
            m.normalised = next[4], m.activation = next[5], m.layers = next[6], m.widths = next + 7;
            next += m.layers + 8;
            if (!in) continue;
            m.values = in[0], m.given = static_cast<const uint8_t*>(in[1]);
            m.standardisation.offset = static_cast<const float*>(in[2]);
            m.standardisation.scale = static_cast<const float*>(in[3]);
            m.table = static_cast<const float*>(in[4]);
            in += 5;
        }
    }
    int64_t widest() const {
        int64_t width = 2 * latent;
        for (const Modality& m : modalities) width = std::max(width, m.widest());
        return padded(width, ROWS);
    }
};

void activate(int64_t activation, int64_t size, float* values) {
    for (int64_t at = 0; at < size; at += LANES) store(values + at, activated(activation, load(values + at)));
}

// The first column of `multiply`, added up in the same order. For one sample, a product with all columns of a tile takes
// several times as long as reading the weights. Reads up to PART - HEIGHT floats behind the weights.
void multiply_column(const Tiles& weight, const float* in, int64_t columns, const float* bias, float* out) {
    constexpr int PART = 8, TILES = 4;  // floats that hold the rows of a tile; sums that do not wait for each other
    typedef float Part __attribute__((vector_size(PART * 4)));
    typedef float UnalignedPart __attribute__((vector_size(PART * 4), aligned(4), may_alias));
    static_assert(HEIGHT <= PART);
    for (int64_t first = 0; first < weight.rows; first += TILES * HEIGHT) {
        const int64_t tiles = std::min<int64_t>(TILES, (weight.rows - first) / HEIGHT);
        const float* data[TILES];
        Part sum[TILES] = {};
        for (int64_t tile = 0; tile < TILES; ++tile) {
            const int64_t row = first + std::min(tile, tiles - 1) * HEIGHT;
            data[tile] = weight.data + row * weight.inner;
            std::memcpy(&sum[tile], bias + row, HEIGHT * 4);
        }
        for (int64_t k = 0; k < weight.inner; ++k) {
            const Part value = in[k * columns] - Part{};
#pragma GCC unroll 4
            for (int tile = 0; tile < TILES; ++tile) {
                sum[tile] += *reinterpret_cast<const UnalignedPart*>(data[tile] + k * HEIGHT) * value;
            }
        }
        for (int64_t row = 0; row < tiles * HEIGHT; ++row) {
            out[(first + row) * columns] = sum[row / HEIGHT][row % HEIGHT];
        }
    }
}

// LayerNorm of every column: scale (x - mean) / sqrt(variance + epsilon) + shift.
void normalise(int64_t width, int64_t columns, const float* scale, const float* shift, float* values) {
    const float share = 1.0F / static_cast<float>(width);
    for (int64_t column = 0; column < columns; column += LANES) {
        Float mean = all(0.0F), variance = all(0.0F);
        for (int64_t row = 0; row < width; ++row) mean += load(values + row * columns + column);
        mean *= share;
        for (int64_t row = 0; row < width; ++row) {
            const Float centred = load(values + row * columns + column) - mean;
            variance += centred * centred;
        }
        const Float deviation = square_root(variance * share + NORM_EPSILON);
        for (int64_t row = 0; row < width; ++row) {
            float* const at = values + row * columns + column;
            store(at, (load(at) - mean) / deviation * scale[row] + shift[row]);
        }
    }
}

// The table's entries of every sample's category, plus `bias`.
void look_up(const Modality& m, int64_t first, int64_t count, int64_t columns, const float* mask, const float* bias,
             float* to) {
    const int64_t* const categories = static_cast<const int64_t*>(m.values) + first;
    const int64_t width = m.widths[m.first()];
    const int64_t of_row = bias ? m.standardisation.features : 1, of_category = bias ? 1 : width;
    for (int64_t row = 0; row < width; ++row) {
        float* const at = to + row * columns;
        std::memset(at, 0, columns * 4);
        for (int64_t column = 0; column < count; ++column) {
            if (mask[column] > 0.0F) at[column] = m.table[row * of_row + categories[column] * of_category];
        }
        const Float shift = all(bias ? bias[row] : 0.0F);
        for (int64_t column = 0; column < columns; column += LANES) store(at + column, load(at + column) + shift);
    }
}

struct Scratch {
    Array one, other, mask, joint;

    Scratch(const Model& model, int64_t columns)
        : one(model.widest() * columns), other(model.widest() * columns), mask(columns),
          joint(2 * model.latent * columns) {}
};

// mean, deviation: (B, Z).
void posterior(const Model& model, const float* packed, int64_t first, int64_t count, const Scratch& scratch,
               float* mean, float* deviation) {
    const int64_t Z = model.latent, columns = padded(count, COLUMNS), size = Z * columns;
    float *one = scratch.one.get(), *other = scratch.other.get();
    float *const mask = scratch.mask.get(), *const weighted = scratch.joint.get(), *const precision = weighted + size;
    begin_product(size, weighted, precision);
    for (const Modality& m : model.modalities) {
        if (m.values) {
            read_mask(m.given + first, count, columns, mask);
            if (m.kind == VECTORS) look_up(m, first, count, columns, mask, nullptr, one);
            if (!m.looks_up()) {
                const float* const values = static_cast<const float*>(m.values) + first * m.standardisation.features;
                read_values(m.standardisation, values, mask, count, columns, one);
            }
        }
        for (int64_t layer = 0; layer < m.layers; ++layer) {
            const int64_t in = m.widths[layer], out = m.widths[layer + 1];
            const float *const bias = packed, *const norm = bias + m.bias_size(layer);
            const Tiles weight{norm + m.norm_size(layer), padded(out, HEIGHT), in};
            packed = weight.data + m.weight_size(layer);
            if (!m.values) continue;
            if (layer < m.first()) look_up(m, first, count, columns, mask, bias, other);
            else if (count == 1) multiply_column(weight, one, columns, bias, other);
            else multiply(weight, one, columns, bias, nullptr, other);
            if (m.normalises(layer)) normalise(out, columns, norm, norm + out, other);
            if (layer + 1 < m.layers) activate(m.activation, out * columns, other);
            std::swap(one, other);
        }
        if (!m.values) continue;
        add_expert(one, mask, Z, columns, weighted, precision, [](int64_t, Float, Float, Float, Float) {});
    }
    end_product(size, weighted, precision);
    write_columns(weighted, columns, count, Z, Z, mean + first * Z);
    write_columns(precision, columns, count, Z, Z, deviation + first * Z);
}

}  // namespace

extern "C" {

// Floats that a model's packed weights take.
void sensorium_posterior_size(const int64_t* plan, int64_t* size) {
    *size = 8;  // multiply_column reads behind the weights
    for (const Modality& m : Model(plan, nullptr).modalities) {
        for (int64_t layer = 0; layer < m.layers; ++layer) {
            *size += m.bias_size(layer) + m.norm_size(layer) + m.weight_size(layer);
        }
    }
}

// weights: for each layer of each modality weight (out, in), bias (out), scale and shift (out) or null. packed: zeros.
void sensorium_posterior_pack(const int64_t* plan, const float* const* weights, float* packed) {
    for (const Modality& m : Model(plan, nullptr).modalities) {
        for (int64_t layer = 0; layer < m.layers; ++layer, weights += 4) {
            const int64_t in = m.widths[layer], out = m.widths[layer + 1];
            std::memcpy(packed, weights[1], out * 4);
            packed += m.bias_size(layer);
            if (m.normalises(layer)) {
                std::memcpy(packed, weights[2], out * 4);
                std::memcpy(packed + out, weights[3], out * 4);
                packed += m.norm_size(layer);
            }
            if (layer >= m.first()) pack_into(weights[0], out, in, in, 1, 0, packed);
            packed += m.weight_size(layer);
        }
    }
}

// out: mean and standard deviation, (B, Z) each.
void sensorium_posterior(int64_t samples, const int64_t* plan, const float* packed, const void* const* in, float* const* out) {
    const Model model(plan, in);
    const Scratch scratch(model, std::min(padded(samples, COLUMNS), BLOCK));
    for (int64_t first = 0; first < samples; first += BLOCK) {
        posterior(model, packed, first, std::min(BLOCK, samples - first), scratch, out[0], out[1]);
    }
}

}  // extern "C"
