#pragma once
// One clone per instruction set, chosen when the program is loaded. Sanitizers and clang do without.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FAIRWAY_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FAIRWAY_CLONES
#endif
