/* Rules on standard input, the filter that libseccomp makes of them on standard output, names it does not know on
 * standard error. Lines:
 *   default ACTION
 *   arch SCMP_ARCH_TOKEN
 *   rule ACTION NAME [INDEX OP VALUE VALUE_TWO]...
 * with actions as the kernel's numbers, and libseccomp's numbers for architectures and operators. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, int error) {
  fprintf(stderr, "fatal %s: %s\n", what, strerror(error < 0 ? -error : error));
  exit(1);
}

int main(void) {
  char line[1024];
  scmp_filter_ctx filter = NULL;
  int others = 0;
  while (fgets(line, sizeof line, stdin)) {
    char *word = strtok(line, " \n");
    if (!strcmp(word, "default")) {
      filter = seccomp_init(strtoul(strtok(NULL, " \n"), NULL, 0));
      if (!filter) die("init", EINVAL);
      if (seccomp_arch_remove(filter, SCMP_ARCH_NATIVE)) die("remove the native architecture", EINVAL);
    } else if (!strcmp(word, "arch")) {
      int result = seccomp_arch_add(filter, strtoul(strtok(NULL, " \n"), NULL, 0));
      if (result) die("arch", result);
      others++;
    } else if (!strcmp(word, "rule")) {
      uint32_t action = strtoul(strtok(NULL, " \n"), NULL, 0);
      char *name = strtok(NULL, " \n");
      struct scmp_arg_cmp args[6];
      unsigned count = 0;
      for (char *index; count < 6 && (index = strtok(NULL, " \n")); count++) {
        args[count].arg = strtoul(index, NULL, 0);
        args[count].op = strtoul(strtok(NULL, " \n"), NULL, 0);
        args[count].datum_a = strtoull(strtok(NULL, " \n"), NULL, 0);
        args[count].datum_b = strtoull(strtok(NULL, " \n"), NULL, 0);
      }
      int call = seccomp_syscall_resolve_name(name);
      if (call == __NR_SCMP_ERROR) {
        fprintf(stderr, "unknown %s\n", name);
        continue;
      }
      int result = seccomp_rule_add_array(filter, action, call, count, args);
      /* What repeats the default action, as runc skips it. */
      if (result && result != -EACCES) die(name, result);
    }
  }
  if (!filter || !others) die("no rules", EINVAL);
  int result = seccomp_export_bpf(filter, 1);
  if (result) die("export", result);
  return 0;
}
