/* SPDX-License-Identifier: Apache-2.0
 * Trains and tests the network on samples from files, on a host or on a board with semihosting.
 *
 *   samples.bin   a sample after the other: label, then NET_INPUTS pixels
 *   train.bin     which of them to learn from, uint32
 *   test.bin      which of them to classify afterwards, uint32
 *   out.bin       the network's state, then a byte for each class, then an int16 for each loss */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../network.h"

enum { STACK_WORDS = 1024 };
#define PAINT 0xC0FFEE00u

static uint8_t sample[1 + NET_INPUTS];

#if defined(__arm__)
/* SysTick counts down, 24 bits; the emulator lets it advance with the instructions. Its flag says
 * that it came to 0. */
#define SYSTICK ((volatile uint32_t *)0xE000E010)

static void start_counting(void) {
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
}

static uint32_t ticks(void) {
    uint32_t found = 0xFFFFFF - SYSTICK[2];
    if (SYSTICK[0] >> 16 & 1) {
        printf("a sample takes more ticks than the counter's 24 bits hold\n");
        exit(4);
    }
    return found;
}

/* How deep a call reaches into the stack: below main, what still holds its paint was not used. */
static volatile uint32_t *below(void) {
    return (volatile uint32_t *)__builtin_frame_address(0) - 32 - STACK_WORDS;
}

static void paint(void) {
    for (int i = 0; i < STACK_WORDS; i++)
        below()[i] = PAINT;
}

static unsigned depth(void) {
    int i = 0;
    while (i < STACK_WORDS && below()[i] == PAINT)
        i++;
    return (unsigned)(STACK_WORDS + 32 - i) * 4;
}
#else
static void start_counting(void) {}
static uint32_t ticks(void) { return 0; }
static void paint(void) {}
static unsigned depth(void) { return 0; }
#endif

static FILE *opened(const char *name, const char *mode) {
    FILE *file = fopen(name, mode);
    if (!file) {
        printf("%s: cannot be opened\n", name);
        exit(2);
    }
    return file;
}

static void take(FILE *samples, uint32_t n) {
    if (fseek(samples, (long)(n * sizeof sample), SEEK_SET) ||
        fread(sample, sizeof sample, 1, samples) != 1) {
        printf("samples.bin: there is no sample %u\n", (unsigned)n);
        exit(2);
    }
}

int main(int argc, char **argv) {
    FILE *samples = opened("samples.bin", "rb"), *out = opened("out.bin", "wb");
    FILE *train = opened("train.bin", "rb"), *test = opened("test.bin", "rb");
    uint64_t train_ticks = 0, test_ticks = 0;
    unsigned trained = 0, tested = 0, stack = 0, n;
    uint32_t index;
    size_t size;
    int16_t *losses;
    (void)argc, (void)argv;

    fseek(train, 0, SEEK_END);
    n = (unsigned)(ftell(train) / 4);
    fseek(train, 0, SEEK_SET);
    losses = malloc(2 * n + 1);

    net_reset();
    while (fread(&index, 4, 1, train) == 1) {
        take(samples, index);
        paint();
        start_counting();
        int loss = net_train_step(sample + 1, NET_INPUTS, sample[0]);
        train_ticks += ticks();
        unsigned deep = depth();
        stack = deep > stack ? deep : stack;
        if (loss < 0)
            return 3;
        losses[trained++] = (int16_t)loss;
    }
    const void *state = net_state(&size);
    fwrite(state, 1, size, out);
    while (fread(&index, 4, 1, test) == 1) {
        take(samples, index);
        start_counting();
        int8_t class = (int8_t)net_predict(sample + 1, NET_INPUTS);
        test_ticks += ticks();
        fwrite(&class, 1, 1, out);
        tested++;
    }
    fwrite(losses, 2, trained, out);
    free(losses);
    fclose(out);
    printf("{\"trained\": %u, \"tested\": %u, \"train_ticks\": %.0f, \"test_ticks\": %.0f, "
           "\"stack_bytes\": %u}\n", trained, tested, (double)train_ticks, (double)test_ticks, stack);
    return 0;
}
