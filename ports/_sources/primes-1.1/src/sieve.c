#include "sieve.h"

void sieve(bool *composite, size_t limit)
{
	for (size_t i = 0; i < limit; i++)
		composite[i] = i < 2;
	for (size_t i = 2; i * i < limit; i++)
		for (size_t k = i * i; !composite[i] && k < limit; k += i)
			composite[k] = true;
}
