const char *pt_version(void);
