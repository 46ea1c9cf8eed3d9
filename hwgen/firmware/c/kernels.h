/* SPDX-License-Identifier: Apache-2.0
 * Inner loops over contiguous values. Cores with the DSP extension take two products or two
 * masters an instruction; the others compute the same integers one by one. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RESIDUAL_BITS 8

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include <arm_acle.h>
#define HAS_DSP 1
#else
#define HAS_DSP 0
#endif

/* Within larger functions a Cortex-M0+ has no registers left for a loop. */
#if HAS_DSP
#define LOOP static inline
#else
#define LOOP static __attribute__((noinline, unused))
#endif

static inline int32_t clip(int32_t x, int32_t low, int32_t high) {
    return x < low ? low : x > high ? high : x;
}

/* x / 2**shift, rounded half up, of a shift of 1 to 31. */
static inline int32_t rounded(int32_t x, int shift) { return ((x >> (shift - 1)) + 1) >> 1; }

/* The same of any shift; x * 2**-shift where it is negative. */
static inline int32_t rnd(int32_t x, int shift) {
    if (shift <= 0)
        return (int32_t)((uint32_t)x << -shift);
    return shift > 31 ? 0 : rounded(x, shift);
}

static inline int bit_length(uint32_t x) {
    return x ? 32 - __builtin_clz(x) : 0;
}

/* Weights are the upper bytes of 16-bit masters, or bytes where they do not train. */
typedef struct {
    const int16_t *masters;     /* NULL: they do not train */
    const int8_t *bytes;
} weights_t;

/* Loops over weights are compiled twice, for each kind of them: a test within costs as much as the
 * product. */
#define INLINE static inline __attribute__((always_inline))
#define FOR_EACH_KIND(w, call) \
    do { \
        const weights_t given = (w); \
        if (given.masters) { \
            const weights_t w = {given.masters, NULL}; \
            call; \
        } else { \
            const weights_t w = {NULL, given.bytes}; \
            call; \
        } \
    } while (0)

INLINE int32_t weight(weights_t w, int i) {
    return w.masters ? w.masters[i] >> RESIDUAL_BITS : w.bytes[i];
}

static inline weights_t from(weights_t w, int i) {
    return w.masters ? (weights_t){w.masters + i, NULL} : (weights_t){NULL, w.bytes + i};
}

#if HAS_DSP
static inline uint32_t word(const void *from) {
    uint32_t x;
    memcpy(&x, from, 4);
    return x;
}

/* Bytes 1 and 3 as 16 bits; the intrinsic cannot name the rotation that comes for free. */
static inline uint32_t odd_bytes(uint32_t x) {
    uint32_t y;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(x));
    return y;
}

/* Four weights from i on, as two pairs of 16 bits. */
INLINE void four(weights_t w, int i, uint32_t *low, uint32_t *high) {
    if (w.masters) {
        *low = odd_bytes(word(w.masters + i));
        *high = odd_bytes(word(w.masters + i + 2));
    } else {
        uint32_t even = __sxtb16(word(w.bytes + i)), odd = odd_bytes(word(w.bytes + i));
        *low = (even & 0xFFFF) | odd << 16;
        *high = even >> 16 | (odd & 0xFFFF0000u);
    }
}
#endif

INLINE void dot2_kind(const int16_t *x, const int16_t *y, weights_t w, int n, int32_t sums[2]) {
    int32_t a = 0, b = 0;
    int i = 0;
#if HAS_DSP
    for (; i + 4 <= n; i += 4) {
        uint32_t low, high;
        four(w, i, &low, &high);
        a = __smlad(word(x + i), low, a);
        b = __smlad(word(y + i), low, b);
        a = __smlad(word(x + i + 2), high, a);
        b = __smlad(word(y + i + 2), high, b);
    }
#endif
    for (; i < n; i++) {
        int32_t one = weight(w, i);
        a += x[i] * one;
        b += y[i] * one;
    }
    sums[0] = a;
    sums[1] = b;
}

/* Sums of x * w and of y * w: two positions share the work of unpacking weights. */
LOOP void dot2(const int16_t *x, const int16_t *y, weights_t w, int n, int32_t sums[2]) {
    FOR_EACH_KIND(w, dot2_kind(x, y, w, n, sums));
}

INLINE int32_t dot_kind(const int16_t *x, weights_t w, int n) {
    int32_t a = 0;
    int i = 0;
#if HAS_DSP
    for (; i + 4 <= n; i += 4) {
        uint32_t low, high;
        four(w, i, &low, &high);
        a = __smlad(word(x + i), low, a);
        a = __smlad(word(x + i + 2), high, a);
    }
#endif
    for (; i < n; i++)
        a += x[i] * weight(w, i);
    return a;
}

LOOP int32_t dot(const int16_t *x, weights_t w, int n) {
    int32_t sum;
    FOR_EACH_KIND(w, sum = dot_kind(x, w, n));
    return sum;
}

INLINE void add_weights_kind(int32_t *sum, weights_t w, int32_t e, int n) {
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        sum[i] += e * weight(w, i);
        sum[i + 1] += e * weight(w, i + 1);
        sum[i + 2] += e * weight(w, i + 2);
        sum[i + 3] += e * weight(w, i + 3);
    }
    for (; i < n; i++)
        sum[i] += e * weight(w, i);
}

/* sum += e * w: an error on its way back through a row of weights. */
LOOP void add_weights(int32_t *sum, weights_t w, int32_t e, int n) {
    FOR_EACH_KIND(w, add_weights_kind(sum, w, e, n));
}

/* g += e * x: a row's gradient. */
LOOP void add_inputs(int32_t *g, const int8_t *x, int32_t e, int n) {
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        g[i] += e * x[i];
        g[i + 1] += e * x[i + 1];
        g[i + 2] += e * x[i + 2];
        g[i + 3] += e * x[i + 3];
    }
    for (; i < n; i++)
        g[i] += e * x[i];
}

static inline int16_t saturated(int32_t m) {
    return (int16_t)clip(m, INT16_MIN, INT16_MAX);
}

/* m -= rnd(e * x, 16), saturating: the outer product of a dense layer's update. */
LOOP void step_inputs(int16_t *m, const int8_t *x, int32_t e, int n) {
#if HAS_DSP
    for (; n >= 2; n -= 2, x += 2, m += 2) {
        uint32_t pair;
        int32_t low = e * x[0] + 32768, high = e * x[1] + 32768;
        memcpy(&pair, m, 4);
        pair = __qsub16(pair, (uint32_t)low >> 16 | ((uint32_t)high & 0xFFFF0000u));
        memcpy(m, &pair, 4);
    }
#endif
    for (; n; n--, m++)
        *m = saturated(*m - ((e * *x++ + 32768) >> 16));
}

/* m -= rnd(g, shift), saturating: the update of a row. */
LOOP void step_gradient(int16_t *m, const int32_t *g, int shift, int n) {
    if (shift > 0 && shift <= 31) {     /* no test within the loop */
        for (; n; n--, m++)
            *m = saturated(*m - rounded(*g++, shift));
        return;
    }
    for (; n; n--, m++)
        *m = saturated(*m - rnd(*g++, shift));
}

#endif
