/* The limit that a preloaded library can reach: it is mapped, relocated, and does nothing. */
__attribute__((constructor)) static void nothing(void) {}
