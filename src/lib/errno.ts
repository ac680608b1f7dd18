/**
 * Errors that may happen: `FsError`, shaped to the letter as Node's own, and the two crossings
 * between thrown errors and the negative numbers that the kernel-named layers return.
 *
 *     cache, mpage, vm            number: 0, a count, or -EIO          `return -EIO`
 *     store, iomap, fs, front     throws FsError                       `throw new FsError("EIO")`
 *     crossing up                 `FsError.of(-5, where)`
 *     crossing down               `errnoOf(thrown)`
 *
 * Errno numbers are Linux's on every platform; what stands for our own bugs is `AssertionError`.
 */

/** 0 or a negative errno, as the kernel's functions return it. */
export type Errno = number;

/** The names that callers compare: `error.code === "ENOENT"`. */
export type ErrnoCode =
  | "EPERM"
  | "ENOENT"
  | "EINTR"
  | "EIO"
  | "ENXIO"
  | "E2BIG"
  | "EBADF"
  | "EAGAIN"
  | "ENOMEM"
  | "EACCES"
  | "EFAULT"
  | "ENOTBLK"
  | "EBUSY"
  | "EEXIST"
  | "EXDEV"
  | "ENODEV"
  | "ENOTDIR"
  | "EISDIR"
  | "EINVAL"
  | "ENFILE"
  | "EMFILE"
  | "ENOTTY"
  | "ETXTBSY"
  | "EFBIG"
  | "ENOSPC"
  | "ESPIPE"
  | "EROFS"
  | "EMLINK"
  | "ERANGE"
  | "ENAMETOOLONG"
  | "ENOSYS"
  | "ENOTEMPTY"
  | "ELOOP"
  | "EBADR"
  | "ENODATA"
  | "EBADMSG"
  | "EOVERFLOW"
  | "ENOPROTOOPT"
  | "EOPNOTSUPP"
  | "ENOTSUP"
  | "ETIMEDOUT"
  | "ESTALE"
  | "EUCLEAN"
  | "EDQUOT"
  | "ECANCELED"
  | "ENOKEY";

const TABLE: Readonly<Record<ErrnoCode, readonly [number, string]>> = {
  EPERM: [1, "operation not permitted"],
  ENOENT: [2, "no such file or directory"],
  EINTR: [4, "interrupted system call"],
  EIO: [5, "i/o error"],
  ENXIO: [6, "no such device or address"],
  E2BIG: [7, "argument list too long"],
  EBADF: [9, "bad file descriptor"],
  EAGAIN: [11, "resource temporarily unavailable"],
  ENOMEM: [12, "not enough memory"],
  EACCES: [13, "permission denied"],
  EFAULT: [14, "bad address in system call argument"],
  ENOTBLK: [15, "block device required"],
  EBUSY: [16, "resource busy or locked"],
  EEXIST: [17, "file already exists"],
  EXDEV: [18, "cross-device link not permitted"],
  ENODEV: [19, "no such device"],
  ENOTDIR: [20, "not a directory"],
  EISDIR: [21, "illegal operation on a directory"],
  EINVAL: [22, "invalid argument"],
  ENFILE: [23, "file table overflow"],
  EMFILE: [24, "too many open files"],
  ENOTTY: [25, "inappropriate ioctl for device"],
  ETXTBSY: [26, "text file is busy"],
  EFBIG: [27, "file too large"],
  ENOSPC: [28, "no space left on device"],
  ESPIPE: [29, "invalid seek"],
  EROFS: [30, "read-only file system"],
  EMLINK: [31, "too many links"],
  ERANGE: [34, "result too large"],
  ENAMETOOLONG: [36, "name too long"],
  ENOSYS: [38, "function not implemented"],
  ENOTEMPTY: [39, "directory not empty"],
  ELOOP: [40, "too many symbolic links encountered"],
  EBADR: [53, "invalid request descriptor"],
  ENODATA: [61, "no data available"],
  EBADMSG: [74, "bad message"],
  EOVERFLOW: [75, "value too large for defined data type"],
  ENOPROTOOPT: [92, "protocol not available"],
  EOPNOTSUPP: [95, "operation not supported"],
  ENOTSUP: [95, "operation not supported on socket"],
  ETIMEDOUT: [110, "connection timed out"],
  ESTALE: [116, "stale file handle"],
  EUCLEAN: [117, "structure needs cleaning"],
  EDQUOT: [122, "disk quota exceeded"],
  ECANCELED: [125, "operation canceled"],
  ENOKEY: [126, "required key not available"],
};

export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const EFBIG = 27;
export const ENOSPC = 28;
export const ESPIPE = 29;
export const EROFS = 30;
export const EOPNOTSUPP = 95;
export const EUCLEAN = 117;

/** Where and why an error happened; every field may be left out. */
export interface FsErrorContext {
  /** The call as the user named it: `open`, `stat`, `read`. */
  readonly syscall?: string | undefined;
  readonly path?: string | undefined;
  readonly dest?: string | undefined;
  /**
   * What is wrong, in words: block and field of a damaged structure, the offset of a failed read.
   */
  readonly detail?: string | undefined;
  readonly cause?: unknown;
}

/**
 * What may happen, with Node's shape: `code`, negative `errno`, `syscall`, `path`, `dest`, and
 * Node's message, "ENOENT: no such file or directory, open '/x'"; a `detail` follows it after ": ".
 * Callers compare `code`, never the class: two copies of quire may be loaded.
 */
export class FsError extends Error implements NodeJS.ErrnoException {
  static {
    // Node's own errors are plain `Error`s. On the prototype, so that it is no own key.
    FsError.prototype.name = "Error";
  }
  readonly errno: number;
  readonly code: ErrnoCode;
  readonly #detail: string | undefined; // Private, since Node's errors have no such own key.
  declare readonly syscall?: string;
  declare readonly path?: string;
  declare readonly dest?: string;

  constructor(code: ErrnoCode, where: FsErrorContext = {}) {
    const [errno, words] = TABLE[code];
    let message = `${code}: ${words}`;
    if (where.syscall !== undefined) message += `, ${where.syscall}`;
    if (where.path !== undefined) message += ` '${where.path}'`;
    if (where.dest !== undefined) message += ` -> '${where.dest}'`;
    if (where.detail !== undefined) message += `: ${where.detail}`;
    super(message, where.cause === undefined ? undefined : { cause: where.cause });
    this.errno = -errno;
    this.code = code;
    this.#detail = where.detail;
    if (where.syscall !== undefined) this.syscall = where.syscall;
    if (where.path !== undefined) this.path = where.path;
    if (where.dest !== undefined) this.dest = where.dest;
  }

  /** The words after Node's message: block and field of a damaged structure, say. */
  get detail(): string | undefined {
    return this.#detail;
  }

  /**
   * The error for a negative `errno` that a kernel-named call returned. Unknown numbers become
   * `EIO`.
   */
  static of(errno: Errno, where: FsErrorContext = {}): FsError {
    return new FsError(codeOf(errno), where);
  }
}

const CODE_OF_ERRNO = new Map<number, ErrnoCode>();
for (const code of Object.keys(TABLE) as ErrnoCode[]) {
  if (!CODE_OF_ERRNO.has(-TABLE[code][0])) CODE_OF_ERRNO.set(-TABLE[code][0], code);
}

/** The name of a negative errno, `EIO` if it has none here. */
export function codeOf(errno: Errno): ErrnoCode {
  return CODE_OF_ERRNO.get(errno) ?? "EIO";
}

/** The words for `code`, as Node prints them. */
export function messageOf(code: ErrnoCode): string {
  return TABLE[code][1];
}

/**
 * True for `FsError` and for any error with one of its codes, as another copy of quire throws it.
 */
export function hasErrnoCode(thrown: unknown): thrown is Error & { readonly code: ErrnoCode } {
  return thrown instanceof Error && "code" in thrown && Object.hasOwn(TABLE, String(thrown.code));
}

/**
 * The negative errno for something thrown by a store, a file system's hook, or an aborted signal:
 * the error's own number, `-EINTR` for an abort, `-EIO` for whatever else (rule JS-8). A reason
 * that is no `AbortError` is known for an abort only by its `signal`.
 */
export function errnoOf(thrown: unknown, signal?: AbortSignal): Errno {
  if (signal?.aborted && thrown === signal.reason) return -EINTR;
  if (hasErrnoCode(thrown)) return -TABLE[thrown.code][0];
  if (thrown instanceof Error && thrown.name === "AbortError") return -EINTR;
  return -EIO;
}
