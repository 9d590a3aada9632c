/* Stands where the standard library expects an unwinder. A panic ends the program (panic = "abort"), so nothing is ever
 * unwound: these names only have to be there for the linker. Asking for a backtrace gets an empty one. */

enum { END_OF_STACK = 5 };

int _Unwind_Backtrace(void *visit, void *data) {
  (void)visit;
  (void)data;
  return END_OF_STACK;
}

#define NEVER_CALLED(name) \
  void name(void) { __builtin_trap(); }

NEVER_CALLED(_Unwind_DeleteException)
NEVER_CALLED(_Unwind_FindEnclosingFunction)
NEVER_CALLED(_Unwind_GetCFA)
NEVER_CALLED(_Unwind_GetDataRelBase)
NEVER_CALLED(_Unwind_GetGR)
NEVER_CALLED(_Unwind_GetIP)
NEVER_CALLED(_Unwind_GetIPInfo)
NEVER_CALLED(_Unwind_GetLanguageSpecificData)
NEVER_CALLED(_Unwind_GetRegionStart)
NEVER_CALLED(_Unwind_GetTextRelBase)
NEVER_CALLED(_Unwind_RaiseException)
NEVER_CALLED(_Unwind_Resume)
NEVER_CALLED(_Unwind_SetGR)
NEVER_CALLED(_Unwind_SetIP)

#ifdef __arm__
/* What the tables of 32-bit ARM (.ARM.exidx) refer to. */
NEVER_CALLED(_Unwind_VRS_Get)
NEVER_CALLED(_Unwind_VRS_Set)
NEVER_CALLED(__aeabi_unwind_cpp_pr0)
NEVER_CALLED(__aeabi_unwind_cpp_pr1)
NEVER_CALLED(__aeabi_unwind_cpp_pr2)
NEVER_CALLED(__gnu_unwind_frame)
#endif
