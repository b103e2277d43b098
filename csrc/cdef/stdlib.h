char *realpath(const char *path, char *resolved);
