// Transformer blocks for reading only, on processors with AVX-512: those of 2018 (Devlin et al.: post-norm) and newer ones, with
// the normalization before a layer or none, rotary positions, a gated feed-forward layer, and without biases.
//
// One call goes through as many blocks as there are, the embedding before them, and what makes one vector of a text's. Its rows
// are the tokens of texts that lie one after the other, without padding. They are taken in groups of whole texts, a thread each,
// so that what a group makes on the way (queries, keys, values, the inner layer) stays in the cache and threads never wait for
// each other. Where there are fewer groups than threads, the threads share each product by its columns instead.
//
// The numbers that enter a product are float32, or where the processor multiplies them, bfloat16 or bytes; with bytes,
// attention's own two products are in the others that are left. Everything else is float32: sums, the softmax,
// normalizations, and the stream of vectors that enters and leaves.
//
// A word is the 32 bits that one lane of a vector multiplies at once: a float32 number, or two bfloat16 numbers or four bytes
// that are neighbours in the sum. So products of all kinds are the same loop over words.

#include <immintrin.h>
#include <omp.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

using Word = std::uint32_t;

constexpr int ROWS = 6;     // of a tile: 6 x 4 sums, 4 vectors of weights and 1 of inputs are 29 of 32 registers
constexpr int VECTORS = 4;  // of 16 columns a panel
constexpr int PANEL = 16 * VECTORS;
constexpr int AHEAD = 32 * PANEL;  // words of weights that are fetched beforehand: a query finds none of them in the cache
constexpr int INNER_ROWS = 96;   // that go through the feed-forward layer together
constexpr int GROUP_ROWS = 224;  // of a group of texts, about
constexpr std::size_t LARGE_PAGE = 1 << 21;

struct Float32 {
    using Number = float;
    using Sums = __m512;
    static constexpr int per_word = 1;
    static Sums nothing() { return _mm512_setzero_ps(); }
    static __m512 floats(Sums sums) { return sums; }
    static Sums add_product(Sums sum, Word a, __m512i b) {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_set1_epi32(a)), _mm512_castsi512_ps(b), sum);
    }
    static __m512 load(const Number* from, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, from); }
    static void store(Number* to, __m512 x, __mmask16 mask) { _mm512_mask_storeu_ps(to, mask, x); }
    static Number rounded(float x) { return x; }
    // The words of `rows` vectors, one at most, which begin at `from`.
    static __m512i words(const Number* from, std::size_t, int rows, __mmask16 mask) {
        return _mm512_maskz_loadu_epi32(rows ? mask : 0, from);
    }
};

#ifdef __AVX512BF16__
struct BFloat16 {
    using Number = std::uint16_t;
    using Sums = __m512;
    static constexpr int per_word = 2;
    static Sums nothing() { return _mm512_setzero_ps(); }
    static __m512 floats(Sums sums) { return sums; }
    static Sums add_product(Sums sum, Word a, __m512i b) {
        return _mm512_dpbf16_ps(sum, (__m512bh)b, (__m512bh)_mm512_set1_epi32(a));
    }
    static __m512 load(const Number* from, __mmask16 mask) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
    static void store(Number* to, __m512 x, __mmask16 mask) {
        _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(x));
    }
    static Number rounded(float x) {
        Number bits[16];
        store(bits, _mm512_set1_ps(x), 1);
        return bits[0];
    }
    static __m512i words(const Number* from, std::size_t stride, int rows, __mmask16 mask) {
        const auto wide = [mask](const Number* row) { return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row)); };
        const __m512i low = wide(from);
        return rows > 1 ? _mm512_or_si512(low, _mm512_slli_epi32(wide(from + stride), 16)) : low;
    }
};
using Half = BFloat16;
#else
using Half = Float32;
#endif

#ifdef __AVX512VNNI__
// What enters is a number of steps, 0 to 255, above the least of its row (see `Range`); a weight is one of -127 to 127 steps of
// its column.
struct Byte {
    using Number = std::uint8_t;
    typedef int Sums __attribute__((vector_size(64)));  // as __m512i, g++ 12 would write them to memory at each step
    static constexpr int per_word = 4;
    static Sums nothing() { return Sums{}; }
    static __m512 floats(Sums sums) { return _mm512_cvtepi32_ps((__m512i)sums); }
    static Sums add_product(Sums sum, Word a, __m512i b) {
        return (Sums)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(a), b);
    }
};
#endif

__mmask16 first(int count) { return count >= 16 ? 0xffff : (__mmask16)((1u << count) - 1); }

int panels(int columns) { return (columns + PANEL - 1) / PANEL; }

std::size_t place_in_panels(int column, int word, int words) {
    return ((std::size_t)(column / PANEL) * words + word) * PANEL + column % PANEL;
}

// Where threads wait for each other. A query has sixty such places; to look around for the others takes a fraction of what
// OpenMP's own barrier does. Whoever has waited for long lets others have the processor, of which there may be too few.
struct Meeting {
    static constexpr int PATIENCE = 1 << 12;
    std::atomic<int> arrived{0};
    std::atomic<unsigned> number{0};
    void wait(int parts) {
        const unsigned now = number.load(std::memory_order_acquire);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == parts - 1) {
            arrived.store(0, std::memory_order_relaxed);
            number.store(now + 1, std::memory_order_release);
            return;
        }
        for (int looks = 0; number.load(std::memory_order_acquire) == now; ++looks)
            looks < PATIENCE ? _mm_pause() : (void)sched_yield();
    }
};

// The threads that share a piece of work. Each takes every `parts`-th row from `part` on, or as many panels that are neighbours.
struct Team {
    int part = 0;
    int parts = 1;
    Meeting* meeting = nullptr;
    void wait() const {
        if (parts > 1) meeting->wait(parts);
    }
};

// ---- Functions of vectors

__m512 exp2(__m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 r = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(1.5403530e-4f);  // Taylor, sixth order, |r| <= 1/2
    for (float c : {1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.0f})
        y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(c));
    return _mm512_scalef_ps(y, whole);
}

__m512 exp(__m512 x) { return exp2(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f))); }

__m512 sigmoid(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

// x times the normal distribution's share below x. The error function is a ratio of polynomials, fitted by least squares that were
// weighted anew until all its extremes were alike: 1.5e-8 up to 3.9, where it ends. So it rounds no worse than torch's.
__m512 gelu(__m512 x) {
    const __m512 most = _mm512_set1_ps(3.9f);
    __m512 z = _mm512_mul_ps(x, _mm512_set1_ps(0.70710678f));
    z = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), most), _mm512_min_ps(most, z));  // in this order NaN stays NaN
    const __m512 t = _mm512_mul_ps(z, z);
    __m512 above = _mm512_set1_ps(2.05039781e-6f), below = _mm512_set1_ps(3.82308452e-5f);
    for (float c : {2.87457109e-4f, 3.83684974e-3f, 5.29668379e-2f, 1.91940321e-1f, 1.12837903f})
        above = _mm512_fmadd_ps(above, t, _mm512_set1_ps(c));
    for (float c : {1.18172890e-3f, 1.51091510e-2f, 1.14757926e-1f, 5.03434459e-1f, 1.00000000f})
        below = _mm512_fmadd_ps(below, t, _mm512_set1_ps(c));
    const __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
    return _mm512_fmadd_ps(half, _mm512_div_ps(_mm512_mul_ps(z, above), below), half);
}

__m512 gelu_tanh(__m512 x) {
    const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    const __m512 inside = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
    return _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(inside, _mm512_set1_ps(1.59576912f))));  // 2 sqrt(2 / pi)
}

enum Activation { GELU, GELU_TANH, RELU, SILU };

__m512 activated(__m512 x, int activation) {
    switch (activation) {
        case GELU: return gelu(x);
        case GELU_TANH: return gelu_tanh(x);
        case RELU: return _mm512_max_ps(_mm512_setzero_ps(), x);  // in this order NaN stays NaN
        default: return _mm512_mul_ps(x, sigmoid(x));
    }
}

// ---- Products

// rows x (16 vectors) sums of `words` products each; `b` has PANEL words for each of them.
template <class N, int rows, int vectors>
void tile(const Word* a, std::size_t a_stride, const Word* b, int words, float* sums) {
    typename N::Sums sum[rows][vectors];
    for (auto& row : sum)
        for (auto& one : row) one = N::nothing();
    for (int k = 0; k < words; ++k, b += PANEL) {
        __m512i weights[vectors];
        for (int v = 0; v < vectors; ++v) weights[v] = _mm512_loadu_si512(b + 16 * v);
        for (int v = 0; v < vectors; ++v) _mm_prefetch(reinterpret_cast<const char*>(b + AHEAD + 16 * v), _MM_HINT_T0);
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < vectors; ++v) sum[r][v] = N::add_product(sum[r][v], a[r * a_stride + k], weights[v]);
    }
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v) _mm512_store_ps(sums + r * PANEL + 16 * v, N::floats(sum[r][v]));
}

template <class N>
using Tile = void (*)(const Word*, std::size_t, const Word*, int, float*);

template <class N>
constexpr Tile<N> TILES[ROWS][VECTORS] = {
    {tile<N, 1, 1>, tile<N, 1, 2>, tile<N, 1, 3>, tile<N, 1, 4>}, {tile<N, 2, 1>, tile<N, 2, 2>, tile<N, 2, 3>, tile<N, 2, 4>},
    {tile<N, 3, 1>, tile<N, 3, 2>, tile<N, 3, 3>, tile<N, 3, 4>}, {tile<N, 4, 1>, tile<N, 4, 2>, tile<N, 4, 3>, tile<N, 4, 4>},
    {tile<N, 5, 1>, tile<N, 5, 2>, tile<N, 5, 3>, tile<N, 5, 4>}, {tile<N, 6, 1>, tile<N, 6, 2>, tile<N, 6, 3>, tile<N, 6, 4>},
};

// a (rows, words) times panels (columns): for 16 columns at a time, `columns_at(column, mask)` gives what gets (row, sums) of each.
template <class N, class ColumnsAt>
void product(const Word* a, std::size_t a_stride, int rows, const Word* b, int words, int columns, Team team,
             ColumnsAt columns_at) {
    alignas(64) float sums[ROWS * PANEL];
    const int tiles = (rows + ROWS - 1) / ROWS, all = panels(columns);
    for (int panel = all * team.part / team.parts; panel < all * (team.part + 1) / team.parts; ++panel) {
        const int left = std::min(PANEL, columns - panel * PANEL), vectors = (left + 15) / 16;
        const Word* weights = b + (std::size_t)panel * PANEL * words;
        for (int i = 0; i < tiles; ++i) {
            const int begin = (int)((long)rows * i / tiles), end = (int)((long)rows * (i + 1) / tiles);
            TILES<N>[end - begin - 1][vectors - 1](a + begin * a_stride, a_stride, weights, words, sums);
            for (int v = 0; v < vectors; ++v) {
                const auto store = columns_at(panel * PANEL + 16 * v, first(left - 16 * v));
                for (int r = begin; r < end; ++r) store(r, _mm512_load_ps(sums + (r - begin) * PANEL + 16 * v));
            }
        }
    }
}

// ---- The block

// A layer normalization, and where it stands.
struct Norm {
    enum Place : int { NOWHERE, BEFORE, AFTER } place;
    float eps;
    const float *weight, *bias;
};

// A matrix as panels, with its bias; no bias is null, and so is a matrix that is not there.
struct Matrix {
    const Word* panels;
    const float* bias;
};

// What Python hands over.
struct Block {
    int hidden, heads, inner, activation;
    Norm attention_norm, feed_forward_norm;
    Matrix query_key_value, output, gate, up, down;
};

// A table of vectors, and which of them each token gets.
struct Lookup {
    const float* table;
    const std::int64_t* numbers;
    std::int64_t size;
};

// What is summed up and normalized before the first block.
struct Embedding {
    const Lookup* lookups;
    int count;
    Norm norm;
};

// A block, and for each position in a text half a head's cosines and sines, if queries and keys are turned.
struct Step {
    const Block* block;
    const float *cosines, *sines;
};

// How the vectors of a text's tokens become one: not at all, their mean, or the first.
enum Pooling : int { NONE, MEAN, FIRST };

// What Python asks for. The stream is (rows, hidden): x enters, unless there is an embedding, and `out` leaves, normalized if the
// end is; `pooled` is (texts, hidden). `runs` are triples: the first row, so many texts from there on, the length of each. They
// are in the order of their rows, without gaps.
struct Call {
    const Embedding* embedding;
    const float* x;
    float* out;
    const Step* steps;
    int number;
    Norm end;
    Pooling pooling;
    float* pooled;
    const int* runs;
    int count, bits, threads;
};

struct Text {
    int start, length;
};

int rows_of(const Text* texts, int count) { return texts[count - 1].start + texts[count - 1].length - texts[0].start; }

__m512 load(const float* from, int column, __mmask16 mask) {
    return from ? _mm512_maskz_loadu_ps(mask, from + column) : _mm512_setzero_ps();
}

// Memory that is kept from call to call; what was in it is lost when it grows.
template <class T>
T* room(std::vector<T>& held, std::size_t size) {
    if (held.size() < size) {
        held.clear();
        held.resize(size);
    }
    return held.data();
}

// A row in bytes: the least number, and the step from one byte to the next. The stream has a component or two that are many times as
// large as all others (Dettmers et al. 2022, arXiv 2208.07339), beside which those would be few steps. So the number farthest out
// may be left out of account: then its byte is the last or the first, and `rest` is what is missing at its place.
struct Range {
    float least, step, rest;
    int place;
};

// Rows of vectors as they enter a product; only bytes have ranges.
template <class D>
struct Rows {
    const typename D::Number* numbers;
    const Range* ranges;
};

// The memory for them.
template <class D>
struct Entrance {
    std::vector<typename D::Number> numbers;
    std::vector<Range> ranges;
    void hold(std::size_t rows, int size) {
        room(numbers, rows * size);
        room(ranges, D::per_word == 4 ? rows : 0);
    }
    Rows<D> rows() const { return {numbers.data(), ranges.data()}; }
};

// N are the numbers of attention's own products, D those of the products with matrices.
template <class N, class D>
struct Scratch {
    std::vector<typename N::Number> heads, mixed, inner;
    std::vector<float> between;
    Entrance<D> given, attended, activated;

    void hold(const Block& block, int rows) {
        const std::size_t all = (std::size_t)rows * block.hidden, some = std::min(rows, INNER_ROWS);
        room(heads, 3 * all);
        room(mixed, all);
        room(inner, some * block.inner);
        room(between, some * block.hidden);
        given.hold(rows, block.hidden);
        if (!std::is_same_v<N, D>) {
            attended.hold(rows, block.hidden);
            activated.hold(some, block.inner);
        }
    }
};

void normalize(const Norm& norm, const float* x, float* out, int size) {
    __m512 total = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int c = 0; c < size; c += 16) total = _mm512_add_ps(total, _mm512_maskz_loadu_ps(first(size - c), x + c));
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / size);
    for (int c = 0; c < size; c += 16) {
        const __mmask16 mask = first(size - c);
        const __m512 apart = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + c), mean);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / size + norm.eps));
    for (int c = 0; c < size; c += 16) {
        const __mmask16 mask = first(size - c);
        const __m512 apart = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + c), mean), scale);
        _mm512_mask_storeu_ps(out + c, mask, _mm512_fmadd_ps(apart, load(norm.weight, c, mask), load(norm.bias, c, mask)));
    }
}

template <class N>
Range range_of(const typename N::Number* x, int size) {
    __m512 low = _mm512_set1_ps(__builtin_inff()), high = _mm512_set1_ps(-__builtin_inff()), sum = _mm512_setzero_ps();
    for (int c = 0; c < size; c += 16) {
        const __mmask16 mask = first(size - c);
        const __m512 some = N::load(x + c, mask);
        low = _mm512_mask_min_ps(low, mask, low, some);
        high = _mm512_mask_max_ps(high, mask, high, some);
        sum = _mm512_add_ps(sum, some);
    }
    const float odd = 0 * _mm512_reduce_add_ps(sum);  // NaN if any number is NaN or infinite, which min and max could lose
    const float least = _mm512_reduce_min_ps(low) + odd;
    return {least, (_mm512_reduce_max_ps(high) - least) / 255, 0, -1};
}

// The range without the number that is farthest from zero, if there is one such number.
Range range_without_farthest(const float* x, int size) {
    __m512 most = _mm512_setzero_ps(), low = _mm512_set1_ps(__builtin_inff()), high = _mm512_set1_ps(-__builtin_inff());
    for (int c = 0; c < size; c += 16)
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(first(size - c), x + c)));
    const __m512 farthest = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    int place = -1, count = 0;
    for (int c = 0; c < size; c += 16) {
        const __mmask16 mask = first(size - c);
        const __m512 some = _mm512_maskz_loadu_ps(mask, x + c);
        const __mmask16 others = _mm512_mask_cmp_ps_mask(mask, _mm512_abs_ps(some), farthest, _CMP_NEQ_UQ);
        low = _mm512_mask_min_ps(low, others, low, some);
        high = _mm512_mask_max_ps(high, others, high, some);
        if (const unsigned at = mask & ~others) {
            place = c + __builtin_ctz(at);
            count += __builtin_popcount(at);
        }
    }
    Range range = range_of<Float32>(x, size);
    if (count != 1 || size < 2) return range;
    const float least = _mm512_reduce_min_ps(low) + 0 * range.step;
    return {least, (_mm512_reduce_max_ps(high) - least) / 255, 0, place};
}

// One row of numbers N enters as row `r`. A row of the stream is said to be one.
template <class N, class D, bool of_stream = false>
void enter(const typename N::Number* x, Entrance<D>& to, std::size_t r, int size) {
    typename D::Number* numbers = to.numbers.data() + r * size;
    if constexpr (D::per_word == 4) {
        Range range;
        if constexpr (of_stream)
            range = range_without_farthest(x, size);
        else
            range = range_of<N>(x, size);
        const __m512 inverse = _mm512_set1_ps(range.step > 0 ? 1 / range.step : 0), least = _mm512_set1_ps(range.least);
        for (int c = 0; c < size; c += 16) {
            const __m512 steps = _mm512_mul_ps(_mm512_sub_ps(N::load(x + c, first(size - c)), least), inverse);
            const __m512i whole = _mm512_cvtps_epi32(_mm512_max_ps(steps, _mm512_setzero_ps()));
            _mm512_mask_cvtusepi32_storeu_epi8(numbers + c, first(size - c), whole);
        }
        if constexpr (of_stream)
            if (range.place >= 0) range.rest = x[range.place] - (range.least + range.step * numbers[range.place]);
        to.ranges[r] = range;
    } else {
        for (int c = 0; c < size; c += 16) D::store(numbers + c, N::load(x + c, first(size - c)), first(size - c));
    }
}

// All rows, unless they are in those numbers already.
template <class N, class D>
Rows<D> entered(const typename N::Number* x, Entrance<D>& to, int rows, int size, Team team) {
    if constexpr (std::is_same_v<N, D>) return {x, nullptr};
    for (int r = team.part; r < rows; r += team.parts) enter<N, D>(x + (std::size_t)r * size, to, r, size);
    team.wait();
    return to.rows();
}

// Rows, from row `begin` on, times a matrix, and its bias: `store(row, column, sums, mask)` gets 16 at a time, and counts rows from
// `begin`. Behind a matrix of bytes are each column's step, and its sum.
template <class D, class Store>
void times(Rows<D> x, int begin, int rows, int size, const Matrix& matrix, int columns, Team team, Store store) {
    const int words = size / D::per_word;
    const Word* a = reinterpret_cast<const Word*>(x.numbers) + (std::size_t)begin * words;
    product<D>(a, words, rows, matrix.panels, words, columns, team, [&](int c, __mmask16 mask) {
        const __m512 bias = load(matrix.bias, c, mask);
        __m512 step{}, weights_sum{};
        if constexpr (D::per_word == 4) {
            const int all = panels(columns) * PANEL;
            const float* steps = reinterpret_cast<const float*>(matrix.panels + (std::size_t)all * words);
            step = load(steps, c, mask), weights_sum = load(steps + all, c, mask);
        }
        return [=, &matrix, &store](int r, __m512 sum) {
            __m512 rest = bias;
            if constexpr (D::per_word == 4) {
                const Range& range = x.ranges[begin + r];
                sum = _mm512_mul_ps(sum, _mm512_set1_ps(range.step));
                if (range.place >= 0) {
                    const __m512i four = _mm512_loadu_si512(matrix.panels + place_in_panels(c, range.place / 4, words));
                    const __m512i left = _mm512_sllv_epi32(four, _mm512_set1_epi32(24 - 8 * (range.place % 4)));
                    const __m512 weights = _mm512_cvtepi32_ps(_mm512_srai_epi32(left, 24));
                    sum = _mm512_fmadd_ps(weights, _mm512_set1_ps(range.rest), sum);
                }
                rest = _mm512_fmadd_ps(_mm512_set1_ps(range.least), weights_sum, bias);
                sum = _mm512_mul_ps(sum, step);
            }
            store(r, c, _mm512_add_ps(sum, rest), mask);
        };
    });
}

// Rotary positions (Su et al. 2021): component i and component i + size / 2 are a plane that is turned.
template <class N>
void turn(typename N::Number* x, const float* cosines, const float* sines, int size) {
    for (int c = 0, half = size / 2; c < half; c += 16) {
        const __mmask16 mask = first(half - c);
        const __m512 low = N::load(x + c, mask), high = N::load(x + half + c, mask);
        const __m512 cosine = load(cosines, c, mask), sine = load(sines, c, mask);
        N::store(x + c, _mm512_fmsub_ps(low, cosine, _mm512_mul_ps(high, sine)), mask);
        N::store(x + half + c, _mm512_fmadd_ps(high, cosine, _mm512_mul_ps(low, sine)), mask);
    }
}

// softmax(Q K' / sqrt(D)) V of one head of one text. `from` points to its first query; rows are `stride` numbers apart, and
// keys and values `hidden` and twice `hidden` further.
template <class N>
void attend(const typename N::Number* from, int stride, int hidden, int length, int size, typename N::Number* to) {
    using Number = typename N::Number;
    constexpr int per = N::per_word;
    const int key_words = size / per, value_words = (length + per - 1) / per, wide = panels(length) * PANEL;
    thread_local std::vector<Word> key_room, value_room, weight_room;
    thread_local std::vector<float> score_room;
    Word* keys = room(key_room, (std::size_t)wide * key_words);
    Word* values = room(value_room, (std::size_t)panels(size) * PANEL * value_words);
    Word* weights = room(weight_room, (std::size_t)ROWS * value_words);
    float* scores = room(score_room, (std::size_t)ROWS * wide);
    for (int j = 0; j < length; ++j) {
        const Number* key = from + (std::size_t)j * stride + hidden;
        Word* column = keys + (std::size_t)(j / PANEL) * PANEL * key_words + j % PANEL;
        for (int k = 0; k < key_words; ++k) std::memcpy(column + (std::size_t)k * PANEL, key + k * per, sizeof(Word));
    }
    for (int c = 0; c < size; c += 16)
        for (int k = 0; k < value_words; ++k) {
            const Number* first_row = from + (std::size_t)k * per * stride + 2 * hidden + c;
            const __m512i some = N::words(first_row, stride, length - k * per, first(size - c));
            _mm512_storeu_si512(values + place_in_panels(c, k, value_words), some);
        }
    const __m512 scale = _mm512_set1_ps(1.44269504f / __builtin_sqrtf((float)size));
    const std::size_t words = stride / per;
    for (int begin = 0; begin < length; begin += ROWS) {
        const int rows = std::min(ROWS, length - begin);
        float shares[ROWS];
        product<N>(reinterpret_cast<const Word*>(from) + begin * words, words, rows, keys, key_words, length, Team{},
                   [&](int c, __mmask16) {
                       return [=](int r, __m512 sum) { _mm512_storeu_ps(scores + r * wide + c, sum); };
                   });
        for (int r = 0; r < rows; ++r) {
            const float* score = scores + r * wide;
            __m512 most = _mm512_set1_ps(-__builtin_inff()), total = _mm512_setzero_ps();
            for (int c = 0; c < length; c += 16)
                most = _mm512_mask_max_ps(most, first(length - c), most, _mm512_loadu_ps(score + c));
            most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
            Number* weight = reinterpret_cast<Number*>(weights + (std::size_t)r * value_words);
            for (int c = 0; c < length; c += 16) {
                const __mmask16 mask = first(length - c);
                const __m512 less = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(score + c), most), scale);
                const __m512 share = _mm512_maskz_mov_ps(mask, exp2(less));
                total = _mm512_add_ps(total, share);
                N::store(weight + c, share, mask);
            }
            if (length % per) weight[length] = Number(0);
            shares[r] = 1.0f / _mm512_reduce_add_ps(total);
        }
        product<N>(weights, value_words, rows, values, value_words, size, Team{},
                   [&](int c, __mmask16 mask) {
                       return [=, &shares](int r, __m512 sum) {
                           N::store(to + (std::size_t)(begin + r) * hidden + c, _mm512_mul_ps(sum, _mm512_set1_ps(shares[r])), mask);
                       };
                   });
    }
}

// One block for some texts, the rows of which lie one after the other.
template <class N, class D>
void read(const Step& step, const float* entering, float* leaving, const Text* texts, int count, Scratch<N, D>& scratch,
          Team team) {
    using Number = typename N::Number;
    const Block& block = *step.block;
    const int hidden = block.hidden, inner = block.inner, size = hidden / block.heads;
    const std::size_t origin = texts[0].start;
    const int rows = rows_of(texts, count);
    const float* x = entering + origin * hidden;
    float* out = leaving + origin * hidden;
    Number *heads = scratch.heads.data(), *mixed = scratch.mixed.data(), *within = scratch.inner.data();
    float* between = scratch.between.data();
    thread_local std::vector<float> row_room;
    float* normalized = room(row_room, hidden);
    const auto place = [hidden](int r, int c = 0) { return (std::size_t)r * hidden + c; };
    const Norm &attention_norm = block.attention_norm, &feed_forward_norm = block.feed_forward_norm;
    const auto give = [&](const Norm& norm, const float* row, int r) {
        if (norm.place == Norm::BEFORE) normalize(norm, row, normalized, hidden);
        enter<Float32, D, true>(norm.place == Norm::BEFORE ? normalized : row, scratch.given, r, hidden);
    };

    for (int r = team.part; r < rows; r += team.parts) give(attention_norm, x + place(r), r);
    team.wait();
    times<D>(scratch.given.rows(), 0, rows, hidden, block.query_key_value, 3 * hidden, team,
             [&](int r, int c, __m512 sum, __mmask16 mask) { N::store(heads + 3 * place(r) + c, sum, mask); });
    team.wait();
    if (step.cosines) {
        for (int i = 0; i < count; ++i)
            for (int position = team.part; position < texts[i].length; position += team.parts)
                for (int h = 0; h < 2 * block.heads; ++h) {
                    const std::size_t angle = (std::size_t)position * (size / 2);
                    Number* head = heads + 3 * place(texts[i].start - (int)origin + position) + h * size;
                    turn<N>(head, step.cosines + angle, step.sines + angle, size);
                }
        team.wait();
    }
    for (int task = team.part; task < count * block.heads; task += team.parts) {
        const Text& text = texts[task / block.heads];
        const int row = text.start - (int)origin, head = task % block.heads * size;
        attend<N>(heads + 3 * place(row) + head, 3 * hidden, hidden, text.length, size, mixed + place(row, head));
    }
    team.wait();
    const Rows<D> attended = entered<N, D>(mixed, scratch.attended, rows, hidden, team);
    for (int begin = 0; begin < rows; begin += INNER_ROWS) {
        const int some = std::min(INNER_ROWS, rows - begin);
        const float* before = x + place(begin);
        float* after = out + place(begin);
        times<D>(attended, begin, some, hidden, block.output, hidden, team, [&](int r, int c, __m512 sum, __mmask16 mask) {
            sum = _mm512_add_ps(sum, load(before + place(r), c, mask));
            _mm512_mask_storeu_ps(between + place(r, c), mask, sum);
        });
        team.wait();
        for (int r = team.part; r < some; r += team.parts) {
            float* row = between + place(r);
            if (attention_norm.place == Norm::AFTER) normalize(attention_norm, row, row, hidden);
            give(feed_forward_norm, row, r);
        }
        team.wait();
        const Rows<D> given = scratch.given.rows();
        const auto inner_place = [inner](int r, int c) { return (std::size_t)r * inner + c; };
        const Matrix& activated_one = block.gate.panels ? block.gate : block.up;
        times<D>(given, 0, some, hidden, activated_one, inner, team, [&](int r, int c, __m512 sum, __mmask16 mask) {
            N::store(within + inner_place(r, c), activated(sum, block.activation), mask);
        });
        if (block.gate.panels)  // the same threads have the same columns, so none has to wait
            times<D>(given, 0, some, hidden, block.up, inner, team, [&](int r, int c, __m512 sum, __mmask16 mask) {
                Number* here = within + inner_place(r, c);
                N::store(here, _mm512_mul_ps(sum, N::load(here, mask)), mask);
            });
        team.wait();
        const Rows<D> activated = entered<N, D>(within, scratch.activated, some, inner, team);
        times<D>(activated, 0, some, inner, block.down, hidden, team, [&](int r, int c, __m512 sum, __mmask16 mask) {
            sum = _mm512_add_ps(sum, load(between + place(r), c, mask));
            _mm512_mask_storeu_ps(after + place(r, c), mask, sum);
        });
        team.wait();
        if (feed_forward_norm.place == Norm::AFTER)
            for (int r = team.part; r < some; r += team.parts)
                normalize(feed_forward_norm, after + place(r), after + place(r), hidden);
    }
}

void embed(const Embedding& embedding, float* out, int begin, int rows, int size, Team team) {
    for (int r = begin + team.part; r < begin + rows; r += team.parts) {
        float* row = out + (std::size_t)r * size;
        for (int i = 0; i < embedding.count; ++i) {
            const Lookup& lookup = embedding.lookups[i];
            const float* vector = lookup.table + (std::size_t)lookup.numbers[r] * size;
            for (int c = 0; c < size; c += 16) {
                const __mmask16 mask = first(size - c);
                const __m512 before = load(i ? row : nullptr, c, mask);
                _mm512_mask_storeu_ps(row + c, mask, _mm512_add_ps(before, load(vector, c, mask)));
            }
        }
        normalize(embedding.norm, row, row, size);
    }
}

// The vector of a text, from those of its tokens.
void pool(Pooling pooling, const float* rows, int length, int size, float* to) {
    for (int c = 0; c < size; c += 16) {
        const __mmask16 mask = first(size - c);
        __m512 sum = load(rows, c, mask);
        if (pooling == MEAN) {
            for (int r = 1; r < length; ++r) sum = _mm512_add_ps(sum, load(rows + (std::size_t)r * size, c, mask));
            sum = _mm512_div_ps(sum, _mm512_set1_ps((float)length));
        }
        _mm512_mask_storeu_ps(to + c, mask, sum);
    }
}

// The memory of a thread, large enough for so many rows in every block.
template <class N, class D>
Scratch<N, D>& scratch(const Call& call, int rows) {
    thread_local Scratch<N, D> held;
    for (const Step* step = call.steps; step < call.steps + call.number; ++step) held.hold(*step->block, rows);
    return held;
}

// All of a call for `count` texts from number `from` on.
template <class N, class D>
void run_some(const Call& call, const Text* texts, int from, int count, Scratch<N, D>& scratch, Team team) {
    const Text* some = texts + from;
    const int hidden = call.steps->block->hidden, rows = rows_of(some, count), end = some->start + rows;
    const float* entering = call.x;
    if (call.embedding) {
        embed(*call.embedding, call.out, some->start, rows, hidden, team);
        team.wait();
        entering = call.out;
    }
    for (const Step* step = call.steps; step < call.steps + call.number; ++step, entering = call.out) {
        read<N, D>(*step, entering, call.out, some, count, scratch, team);
        team.wait();
    }
    const auto row = [&](int r) { return call.out + (std::size_t)r * hidden; };
    if (call.end.place != Norm::NOWHERE) {
        for (int r = some->start + team.part; r < end; r += team.parts) normalize(call.end, row(r), row(r), hidden);
        team.wait();
    }
    for (int i = team.part; i < count && call.pooling != NONE; i += team.parts)
        pool(call.pooling, row(some[i].start), some[i].length, hidden, call.pooled + (std::size_t)(from + i) * hidden);
}

template <class N, class D>
void run_all(const Call& call, const Text* texts, int count) {
    std::vector<int> groups{0};  // the first text of each, and the end
    const int all = rows_of(texts, count), most = std::max(ROWS * 8, std::min(GROUP_ROWS, all / (2 * call.threads)));
    for (int i = 1; i < count; ++i)
        if (rows_of(texts + groups.back(), i + 1 - groups.back()) > most) groups.push_back(i);
    groups.push_back(count);
    const int last = (int)groups.size() - 2;
    if (call.threads == 1 || last + 1 >= call.threads) {
#pragma omp parallel for schedule(dynamic) num_threads(call.threads)
        for (int g = last; g >= 0; --g) {  // the longest texts are last
            const int some = groups[g + 1] - groups[g];
            run_some<N, D>(call, texts, groups[g], some, scratch<N, D>(call, rows_of(texts + groups[g], some)), Team{});
        }
    } else {
        Scratch<N, D>& shared = scratch<N, D>(call, all);
        Meeting meeting;
#pragma omp parallel num_threads(call.threads)
        run_some<N, D>(call, texts, 0, count, shared, Team{omp_get_thread_num(), omp_get_num_threads(), &meeting});
    }
}

template <class N>
void pack_panels(const float* weight, int columns, int size, Word* to) {
    using Number = typename N::Number;
    constexpr int per = N::per_word;
    Number* numbers = reinterpret_cast<Number*>(to);
    for (int c = 0; c < panels(columns) * PANEL; ++c)
        for (int k = 0; k < size; ++k)
            numbers[place_in_panels(c, k / per, size / per) * per + k % per] =
                c < columns ? N::rounded(weight[(std::size_t)c * size + k]) : Number(0);
}

#ifdef __AVX512VNNI__
void pack_bytes(const float* weight, int columns, int size, Word* to) {
    const int all = panels(columns) * PANEL, words = size / Byte::per_word;
    auto* numbers = reinterpret_cast<std::int8_t*>(to);
    auto* steps = reinterpret_cast<float*>(to + (std::size_t)all * words);
    for (int c = 0; c < all; ++c) {
        const float* column = weight + (std::size_t)c * size;
        float most = 0;
        bool odd = false;
        for (int k = 0; k < size && c < columns; ++k) {
            most = std::max(most, std::fabs(column[k]));
            odd |= !std::isfinite(column[k]);
        }
        long sum = 0;
        for (int k = 0; k < size; ++k) {
            const long number = most > 0 && !odd ? std::lrint(column[k] / most * 127) : 0;
            numbers[place_in_panels(c, k / 4, words) * 4 + k % 4] = (std::int8_t)number;
            sum += number;
        }
        steps[c] = odd ? __builtin_nanf("") : most / 127;
        steps[all + c] = steps[c] * (float)sum;
    }
}
#endif

}  // namespace

// What is called from Python. `bits` is 32 for float32, 16 for bfloat16 and 8 for bytes; for bits that it was not compiled for,
// `packed_bytes` is 0 and nothing else may be called.
extern "C" {

// Bytes of a matrix (columns, size) as panels.
std::size_t packed_bytes(int columns, int size, int bits) {
    const std::size_t all = (std::size_t)panels(columns) * PANEL;
    switch (bits) {
#ifdef __AVX512VNNI__
        case 8: return all * size + 2 * all * sizeof(float);
#endif
#ifdef __AVX512BF16__
        case 16: return all * size * 2;
#endif
        case 32: return all * size * 4;
        default: return 0;
    }
}

// Memory in large pages where the system has them: a query reads all weights once, and would look up thousands of small ones.
void* allocate(std::size_t bytes) {
    const std::size_t whole = (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    void* made = std::aligned_alloc(LARGE_PAGE, whole);
    if (made) madvise(made, whole, MADV_HUGEPAGE);  // it is no matter if it does not listen
    return made;
}

void release(void* made) { std::free(made); }

void pack(const float* weight, int columns, int size, int bits, Word* to) {
#ifdef __AVX512VNNI__
    if (bits == 8) return pack_bytes(weight, columns, size, to);
#endif
#ifdef __AVX512BF16__
    if (bits == 16) return pack_panels<BFloat16>(weight, columns, size, to);
#endif
    pack_panels<Float32>(weight, columns, size, to);
}

// Returns -1, or if a token asks for a vector that a table does not have, that table's place in the embedding; then nothing has
// been done.
int run(const Call* call) {
    thread_local std::vector<Text> texts;
    texts.clear();
    for (const int* run = call->runs; run < call->runs + 3 * call->count; run += 3)
        for (int i = 0; i < run[1]; ++i) texts.push_back({run[0] + i * run[2], run[2]});
    if (texts.empty()) return -1;
    const int count = (int)texts.size();
    for (int i = 0; call->embedding && i < call->embedding->count; ++i) {
        const Lookup& lookup = call->embedding->lookups[i];
        const std::int64_t *begin = lookup.numbers + texts[0].start, *end = begin + rows_of(texts.data(), count);
        if (std::any_of(begin, end, [&](std::int64_t number) { return number < 0 || number >= lookup.size; })) return i;
    }
    switch (call->bits) {
#ifdef __AVX512VNNI__
        case 8: run_all<Half, Byte>(*call, texts.data(), count); break;
#endif
#ifdef __AVX512BF16__
        case 16: run_all<BFloat16, BFloat16>(*call, texts.data(), count); break;
#endif
        default: run_all<Float32, Float32>(*call, texts.data(), count);
    }
    return -1;
}
}
