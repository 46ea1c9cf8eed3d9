/* SPDX-License-Identifier: Apache-2.0
 * Reset of a Cortex-M: memory as C expects it, then main. Files and printf go to the debugger or
 * emulator by semihosting (newlib's rdimon). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t data_start[], data_end[], data_load[], bss_start[], bss_end[], stack_top[];
extern void initialise_monitor_handles(void);
extern int main(int argc, char **argv);

static void fault(void) {
    for (;;) {
    }
}

static void reset(void) {
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;     /* CPACR: floating point on */
    __asm volatile("dsb\n isb");
#endif
    memcpy(data_start, data_load, (size_t)((char *)data_end - (char *)data_start));
    memset(bss_start, 0, (size_t)((char *)bss_end - (char *)bss_start));
    initialise_monitor_handles();
    exit(main(0, NULL));
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    stack_top, (void *)reset, (void *)fault, (void *)fault};
