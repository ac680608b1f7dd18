/** Modes, times and types of files as `ls` and `stat` print them. */
import type { FileType, InodeAttributes, Timespec } from "../../fs/vfs.ts";

const LETTERS: Readonly<Record<FileType, string>> = {
  file: "f",
  directory: "d",
  symlink: "l",
  character: "c",
  block: "b",
  fifo: "p",
  socket: "s",
  unknown: "?",
};

/** One letter for a type, as `find -type` takes it. */
export function typeLetter(type: FileType): string {
  return LETTERS[type];
}

const NAMES: Readonly<Record<FileType, string>> = {
  file: "regular file",
  directory: "directory",
  symlink: "symlink",
  character: "character device",
  block: "block device",
  fifo: "FIFO",
  socket: "socket",
  unknown: "file of unknown type",
};

/** A type in words. */
export function typeName(type: FileType): string {
  return NAMES[type];
}

/** "drwxr-xr-x", as `ls -l` shows a mode. */
export function modeText(type: FileType, mode: number): string {
  const triple = (bits: number, special: boolean, letter: string): string => {
    const execute = (bits & 1) !== 0;
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? "x" : "-";
    return `${bits & 4 ? "r" : "-"}${bits & 2 ? "w" : "-"}${last}`;
  };
  const first = type === "file" ? "-" : LETTERS[type];
  return (
    first +
    triple((mode >> 6) & 7, (mode & 0o4000) !== 0, "s") +
    triple((mode >> 3) & 7, (mode & 0o2000) !== 0, "s") +
    triple(mode & 7, (mode & 0o1000) !== 0, "t")
  );
}

/** The permission bits as four octal digits. */
export function octalMode(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, "0");
}

/** Nanoseconds since 1970 as decimal text, which may be negative. */
export function nanoseconds(time: Timespec): string {
  return (BigInt(time.sec) * 1_000_000_000n + BigInt(time.nsec)).toString();
}

/** "2026-11-20T12:00:00.123456789Z". */
export function timeText(time: Timespec): string {
  const seconds = new Date(time.sec * 1000).toISOString().slice(0, -5);
  return `${seconds}.${String(time.nsec).padStart(9, "0")}Z`;
}

/** What `--json` tells of an inode. */
export function attributesJson(type: FileType, attributes: InodeAttributes): object {
  const { ino, generation, nlink, uid, gid, sizeBytes, sectorCount, blockBytes } = attributes;
  return {
    ino,
    type,
    mode: octalMode(attributes.mode),
    nlink,
    uid,
    gid,
    size: sizeBytes,
    blocks: sectorCount,
    blockBytes,
    ...(type === "character" || type === "block"
      ? { rdev: [attributes.rdevMajor, attributes.rdevMinor] }
      : {}),
    atime_ns: nanoseconds(attributes.atime),
    mtime_ns: nanoseconds(attributes.mtime),
    ctime_ns: nanoseconds(attributes.ctime),
    ...(attributes.birthtime === undefined
      ? {}
      : { birthtime_ns: nanoseconds(attributes.birthtime) }),
    generation,
    flags: attributes.flags.toString(16),
    projectId: attributes.projectId,
  };
}
