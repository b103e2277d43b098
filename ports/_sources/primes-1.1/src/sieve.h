/* The primes below a limit. */
#ifndef SIEVE_H
#define SIEVE_H

#include <stdbool.h>
#include <stddef.h>

/* Sets composite[i] for each i < limit that is no prime; 0 and 1 count as none. */
void sieve(bool *composite, size_t limit);

#endif
