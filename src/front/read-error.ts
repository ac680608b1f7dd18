/** From the errno of a failed read to an error that says all that is known about it. */
import type { CacheFile } from "../cache/cache-file.ts";
import { EIO, type Errno, FsError } from "../lib/errno.ts";

/**
 * The error for `errno`, which a read of `file` has returned at `posBytes`.
 *
 * Where the file's cache knows what was behind it (a damaged block map, say, which mpage calls
 * `EIO`), code, detail and cause are those; `name` says which file it was.
 */
export function readErrorOf(
  file: CacheFile,
  errno: Errno,
  posBytes: number,
  name: string,
): FsError {
  const failure = file.mapping.readFailure;
  const place = `at byte ${posBytes} of ${name}`;
  if (failure === undefined || (errno !== -EIO && errno !== failure.errno)) {
    return FsError.of(errno, { syscall: "read", detail: place });
  }
  const { code, cause } = failure;
  const detail = failure.detail === undefined ? place : `${place}: ${failure.detail}`;
  return new FsError(code, { syscall: "read", detail, cause });
}
