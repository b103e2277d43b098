int pt_landlock_abi(void);
bool pt_become_subreaper(void);
bool pt_library_enters(const char *path);
