/* Lets GCC's unwinder (libgcc_eh.a, built for glibc) work in a static musl program.
 *
 * It asks glibc's _dl_find_object for the unwind tables around an address; musl has no such call, but the same
 * answer is in dl_iterate_phdr. And it takes the program for single-threaded unless it finds the pthread
 * functions, which it only names weakly: a static link leaves those out, half of them, and a panic jumps to
 * address 0. `keep` draws all of them in. */
#include <link.h>
#include <pthread.h>
#include <stddef.h>

/* struct dl_find_object of glibc 2.35. 32-bit ARM has tables of another kind and does not ask. */
struct found {
  unsigned long long flags;
  void *map_start, *map_end;
  void *link_map;
  void *eh_frame_hdr;
#ifdef __i386__
  void *data_base; /* of addresses relative to the global offset table, which we do not have */
#endif
  unsigned long long reserved[7];
};

struct question {
  ElfW(Addr) pc;
  struct found *found;
};

static int visit(struct dl_phdr_info *info, size_t size, void *data) {
  struct question *question = data;
  const ElfW(Phdr) *tables = NULL, *text = NULL;
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[i];
    ElfW(Addr) start = info->dlpi_addr + header->p_vaddr;
    if (header->p_type == PT_LOAD && question->pc - start < header->p_memsz) text = header;
    if (header->p_type == PT_GNU_EH_FRAME) tables = header;
  }
  if (!text || !tables) return 0;
  question->found->flags = 0;
  question->found->map_start = (void *)(info->dlpi_addr + text->p_vaddr);
  question->found->map_end = (void *)(info->dlpi_addr + text->p_vaddr + text->p_memsz);
  question->found->link_map = NULL;
  question->found->eh_frame_hdr = (void *)(info->dlpi_addr + tables->p_vaddr);
#ifdef __i386__
  question->found->data_base = NULL;
#endif
  return 1;
}

int _dl_find_object(void *pc, struct found *found) {
  struct question question = {(ElfW(Addr))pc, found};
  return dl_iterate_phdr(visit, &question) ? 0 : -1;
}

__attribute__((used)) static void *const keep[] = {
    (void *)pthread_once,        (void *)pthread_key_create,  (void *)pthread_getspecific,
    (void *)pthread_setspecific, (void *)pthread_mutex_lock, (void *)pthread_mutex_unlock,
};
