/* Stands in place of musl's rcrt1.o: where a position-independent program begins that nobody relocates but itself.
 *
 * There are some nine thousand places in it that hold an address, most of them side by side in tables. The classic
 * list of them (DT_RELA) has 24 bytes for each; the packed one (DT_RELR, of the generic ABI) a bit. musl reads packed
 * lists since 1.2.4, Debian's is older. Until the loops below are through, nothing here may need an address that
 * is stored: what is named is hidden, and so found relative to the code. */
#include <elf.h>
#include <stddef.h>
#include <stdint.h>

/* Not yet in musl's elf.h. */
#define RELR 36
#define RELR_BYTES 35

#define HIDDEN __attribute__((visibility("hidden")))
extern const Elf64_Dyn _DYNAMIC[] HIDDEN;
extern const unsigned char __ehdr_start[] HIDDEN; /* by the linker: the first byte of the program */

int main(int, char **, char **);
extern void _init(void) HIDDEN __attribute__((weak));
extern void _fini(void) HIDDEN __attribute__((weak));
_Noreturn int __libc_start_main(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void));

/* The kernel leaves the count of arguments, and the arguments, where the stack pointer points. */
__asm__(".text\n"
        ".global _start\n"
        ".type _start, %function\n"
        "_start:\n"
        "  xor %ebp, %ebp\n"
        "  mov %rsp, %rdi\n"
        "  and $-16, %rsp\n"
        "  call start_with_stack\n");

_Noreturn HIDDEN void start_with_stack(long *stack) {
  uintptr_t base = (uintptr_t)__ehdr_start;
  uintptr_t list = 0, bytes = 0, packed = 0, packed_bytes = 0;
  for (const Elf64_Dyn *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++) {
    if (entry->d_tag == DT_RELA) list = base + entry->d_un.d_ptr;
    if (entry->d_tag == DT_RELASZ) bytes = entry->d_un.d_val;
    if (entry->d_tag == RELR) packed = base + entry->d_un.d_ptr;
    if (entry->d_tag == RELR_BYTES) packed_bytes = entry->d_un.d_val;
  }
  for (const Elf64_Rela *one = (void *)list; (uintptr_t)one < list + bytes; one++)
    if (ELF64_R_TYPE(one->r_info) == R_X86_64_RELATIVE) *(uintptr_t *)(base + one->r_offset) = base + one->r_addend;
  /* An even word is the address of a place; an odd one has a bit for each of the 63 places that follow. */
  uintptr_t *place = NULL;
  for (const uintptr_t *word = (void *)packed; (uintptr_t)word < packed + packed_bytes; word++) {
    if (!(*word & 1)) {
      place = (uintptr_t *)(base + *word);
      *place++ += base;
      continue;
    }
    uintptr_t bits = *word >> 1;
    for (size_t i = 0; bits; i++, bits >>= 1)
      if (bits & 1) place[i] += base;
    place += 63;
  }
  /* Only now is `main`'s address to be had from where it is stored. */
  __asm__ volatile("" ::: "memory");
  __libc_start_main(main, (int)*stack, (char **)(stack + 1), _init, _fini, NULL);
}
