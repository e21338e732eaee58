// Parts of both passes of the evidence lower bound: the model as the kernel reads it, and its packed weights.
//
// B samples, Z latent features, M modalities of D values each; encoders and decoders are fully connected, likelihoods are
// Gaussian, the expert is the product. All weights are parts of one vector of parameters.

#pragma once

#include "dense.h"

namespace {

constexpr float SPREAD_FLOOR = 1e-2F, NORMALISATION = 0.918938533F;  // models/likelihoods/continuous.py

// log(x) for positive x, by the polynomial of Cephes; NaN and infinity propagate.
INLINE Float logarithm(Float x) {
    Int bits;
    std::memcpy(&bits, &x, sizeof bits);
    Float power = __builtin_convertvector((bits >> 23) - 126, Float);
    const Int fraction = (bits & 0x7FFFFF) | 0x3F000000;
    Float rest;
    std::memcpy(&rest, &fraction, sizeof rest);
    const Int low = rest < all(0.707106781F);
    power -= low ? all(1.0F) : all(0.0F);
    rest = (low ? rest + rest : rest) - 1.0F;
    const Float square = rest * rest;
    Float sum = all(7.0376836292e-2F);
    sum = sum * rest - 1.1514610310e-1F;
    sum = sum * rest + 1.1676998740e-1F;
    sum = sum * rest - 1.2420140846e-1F;
    sum = sum * rest + 1.4249322787e-1F;
    sum = sum * rest - 1.6668057665e-1F;
    sum = sum * rest + 2.0000714765e-1F;
    sum = sum * rest - 2.4999993993e-1F;
    sum = sum * rest + 3.3333331174e-1F;
    Float found = sum * rest * square - power * 2.12194440e-4F - 0.5F * square;
    found = rest + found + power * 0.693359375F;
    return x <= all(3.4e38F) ? found : x;
}

// The sum of the lanes.
INLINE float total(Float x) {
    typedef float Half __attribute__((vector_size(LANES * 2)));
    Half low, high;
    std::memcpy(&low, &x, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof low, sizeof high);
    low += high;
    float sum = 0;
    for (int lane = 0; lane < LANES / 2; ++lane) sum += low[lane];
    return sum;
}

// KL(N(mean, spread^2) || N(0, 1)) in nats.
INLINE Float kl_from_standard(Float mean, Float spread) {
    const Float variance = spread * spread;
    return 0.5F * (variance + mean * mean - 1.0F - logarithm(variance));
}

// A fully connected network.
struct Network {
    int64_t activation, layers;
    const int64_t* widths;  // of the input, the hidden layers and the output
    const int64_t* places;  // of every layer's weight (out, in) and bias (out) in the vector of parameters

    // Rows of the workspace: values and derivatives of the hidden layers below this one, or of all of them.
    int64_t rows(int64_t layer) const {
        int64_t sum = 0;
        for (int64_t hidden = 1; hidden < layer; ++hidden) sum += 2 * widths[hidden];
        return sum;
    }
    int64_t rows() const { return rows(layers); }
    int64_t widest() const { return *std::max_element(widths, widths + layers + 1); }
};

struct Modality {
    Standardisation standardisation;
    bool predicted, learned;  // the decoder gives the spread; the errors that the spread adapts to are wanted
    Network encoder, decoder;
    const float *values, *targets, *moment;  // (B, D) twice or null; (S) the mean squared error
    const uint8_t *given, *wanted;  // (B) each

    int64_t features() const { return standardisation.features; }
    int64_t parameters() const { return predicted ? 2 * features() : features(); }
    // Rows of the workspace: values, hidden layers, mean, precision, spread and its derivative; hidden layers of the
    // decoder, d log p / d raw.
    int64_t encoded_rows(int64_t latent) const { return features() + encoder.rows() + 4 * latent; }
    int64_t rows(int64_t latent) const { return encoded_rows(latent) + decoder.rows() + parameters(); }
};

struct Model {
    int64_t samples, latent;
    std::vector<Modality> modalities;
    const float *parameters, *noise;  // noise: (B, Z), or null for the posterior mean
    float beta, free_bits;
    const float* weights;  // (M) of the log-likelihoods

    // plan: Z, M, of every modality D, S, predicted, learned, and of encoder and decoder activation, layers, layers + 1
    // widths and 2 layers places. in: parameters, noise, of every modality values, given, targets, wanted, offset, scale,
    // moment. scalars: beta, free bits, weights.
    Model(int64_t samples, const int64_t* plan, const void* const* in, const float* scalars)
        : samples(samples), latent(plan[0]), modalities(plan[1]), parameters(nullptr), noise(nullptr), beta(0),
          free_bits(0), weights(nullptr) {
        const int64_t* next = plan + 2;
        for (Modality& m : modalities) {
            m.standardisation = {next[0], next[1], false, nullptr, nullptr};
            m.predicted = next[2], m.learned = next[3];
            next += 4;
            for (Network* network : {&m.encoder, &m.decoder}) {
                const int64_t layers = next[1];
                *network = {next[0], layers, next + 2, next + 3 + layers};
                next += 3 + 3 * layers;
            }
        }
        if (!in) return;
        parameters = static_cast<const float*>(in[0]), noise = static_cast<const float*>(in[1]);
        beta = scalars[0], free_bits = scalars[1], weights = scalars + 2;
        in += 2;
        for (Modality& m : modalities) {
            m.values = static_cast<const float*>(in[0]), m.given = static_cast<const uint8_t*>(in[1]);
            m.targets = static_cast<const float*>(in[2]), m.wanted = static_cast<const uint8_t*>(in[3]);
            m.standardisation.offset = static_cast<const float*>(in[4]);
            m.standardisation.scale = static_cast<const float*>(in[5]);
            m.moment = static_cast<const float*>(in[6]);
            in += 7;
        }
    }
    // Rows of the workspace: those of all modalities, and mean, deviation, noise and code of the joint posterior.
    int64_t rows() const {
        int64_t sum = 4 * latent;
        for (const Modality& m : modalities) sum += m.rows(latent);
        return sum;
    }
    int64_t widest() const {
        int64_t width = 2 * latent;
        for (const Modality& m : modalities) width = std::max({width, m.encoder.widest(), m.decoder.widest()});
        return padded(width, ROWS);
    }
};

// A network's weights as products read them, for the forward or the backward pass.
struct Layers {
    std::vector<Packed> weights;
    std::vector<Array> biases;

    Layers(const Network& network, const float* parameters, bool back) {
        for (int64_t layer = 0; layer < network.layers; ++layer) {
            const int64_t in = network.widths[layer], out = network.widths[layer + 1];
            const float* const weight = parameters + network.places[2 * layer];
            weights.push_back(back ? pack_columns(weight, out, in) : pack_rows(weight, out, in));
            if (!back) biases.push_back(padded_copy(parameters + network.places[2 * layer + 1], out));
        }
    }
};

struct Halves {
    Layers encoder, decoder;

    Halves(const Modality& m, const float* parameters, bool back)
        : encoder(m.encoder, parameters, back), decoder(m.decoder, parameters, back) {}
};

std::vector<Halves> halves(const Model& model, bool back) {
    std::vector<Halves> found;
    for (const Modality& m : model.modalities) found.emplace_back(m, model.parameters, back);
    return found;
}

struct Scratch {
    Array one, other, target, mask, row, loss;

    Scratch(const Model& model, int64_t columns)
        : one(model.widest() * columns), other(model.widest() * columns), target(model.widest() * columns),
          mask(columns), row(columns), loss(columns) {}
};

}  // namespace
