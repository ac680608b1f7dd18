/**
 * Owners, extended attributes, modes and times of extracted files, and device nodes.
 *
 * Node has no call for extended attributes, device nodes, or times in nanoseconds, so the system's
 * own programs set them: `setfattr`, `mknod`, and `perl` or `touch`. Each runs once for all files
 * where it can, and only if there is one that needs it.
 *
 * Files that need none of this get all from calls on their descriptor before they are closed.
 *
 *     order   owner, xattrs, times, mode: each would undo or forbid an earlier one; innermost first
 */
import { isUtf8 } from "node:buffer";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  fchmodSync,
  fchownSync,
  futimesSync,
  lchownSync,
  lstatSync,
  lutimesSync,
} from "node:fs";
import type { FileSystem, Timespec, VfsInode } from "../../fs/vfs.ts";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { type CommandContext, report } from "./command.ts";

/** A file that was made, and the inode that it is a copy of. */
export interface MadeFile {
  readonly path: Buffer;
  readonly inode: VfsInode;
  /** The attributes to set, if they are known. */
  readonly xattrs?: readonly ImageXattr[];
  /** Owner and mode are set. */
  readonly isTimeLeft?: boolean;
}

/** Name and value. */
export type ImageXattr = readonly [name: string, value: Uint8Array];

/** A user and a group. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** What is set besides mode and times. */
export interface MetadataChoice {
  readonly setsOwner: boolean;
  readonly setsXattrs: boolean;
  readonly keepsPrivileges: boolean;
  /** Whom new files belong to, if that is known. */
  readonly ownerOfNew: Owner | undefined;
}

const PRIVILEGE_BITS = 0o6000;
const SETGID_BIT = 0o2000;

/** Makes a device node, FIFO or socket with mode 0600. Throws `EPERM` where that is not allowed. */
export function makeSpecial(inode: VfsInode, path: Buffer): void {
  const { rdevMajor, rdevMinor } = inode.attributes();
  const letter = { character: "c", block: "b", fifo: "p" }[inode.type as "fifo"] ?? "";
  const where = { syscall: "mknod", path: path.toString() };
  if (!isUtf8(path)) {
    // A program gets its arguments as text: it would make a file of another name.
    throw new FsError("EOPNOTSUPP", { ...where, detail: "its name is not UTF-8" });
  }
  if (letter === "") {
    makeSocket(path, where);
    return;
  }
  const numbers = letter === "p" ? [] : [String(rdevMajor), String(rdevMinor)];
  runProgram("mknod", ["-m", "600", "--", path.toString(), letter, ...numbers], "", where);
}

/**
 * Whom files belong to that this process makes in and below the directory `path`, where that is
 * certain.
 */
export function ownerOfNewFiles(path: Buffer): Owner | undefined {
  const { uid, gid, mode } = lstatSync(path);
  const isOwn = uid === process.geteuid?.() && gid === process.getegid?.();
  return isOwn && (mode & SETGID_BIT) === 0 ? { uid, gid } : undefined;
}

/**
 * Sets owner, mode and times of the file `fd` that has just been made; what fails is reported.
 * Returns what is left to `applyMetadata`, if anything is.
 */
export function applyToOpenFile(
  fd: number,
  made: MadeFile,
  choice: MetadataChoice,
  context: CommandContext,
): MadeFile | undefined {
  if (made.xattrs === undefined || made.xattrs.length > 0) return made;
  const { uid, gid, mode, atime, mtime } = made.inode.attributes();
  const owner = choice.ownerOfNew;
  if (choice.setsOwner && (uid !== owner?.uid || gid !== owner.gid)) {
    attempt(context, () => fchownSync(fd, uid, gid));
  }
  attempt(context, () => fchmodSync(fd, modeToSet(mode, choice)));
  if (!isWhole(atime) || !isWhole(mtime)) return { ...made, isTimeLeft: true };
  attempt(context, () => futimesSync(fd, atime.sec, mtime.sec));
  return undefined;
}

/**
 * Sets everything, in the order that keeps it. What fails is reported and does not stop the rest.
 */
export async function applyMetadata(
  fs: FileSystem,
  made: readonly MadeFile[],
  choice: MetadataChoice,
  context: CommandContext,
): Promise<void> {
  const all = made.filter(({ isTimeLeft }) => isTimeLeft !== true);
  if (choice.setsOwner) {
    for (const { path, inode } of all) {
      const { uid, gid } = inode.attributes();
      attempt(context, () => lchownSync(path, uid, gid));
    }
  }
  if (choice.setsXattrs) {
    const dump = await xattrDump(fs, all, choice, context);
    const where = { syscall: "setxattr" };
    attempt(context, () => {
      if (dump !== "") runProgram("setfattr", ["-h", "--restore=-"], dump, where);
    });
  }
  attempt(context, () => setTimes([...made].reverse(), context));
  // The innermost first: a directory that loses its x bit would hide what is in it.
  for (let at = all.length - 1; at >= 0; at--) {
    const { path, inode } = all[at]!;
    if (inode.type === "symlink") continue;
    const { mode } = inode.attributes();
    attempt(context, () => chmodSync(path, modeToSet(mode, choice)));
  }
}

function attempt(context: CommandContext, task: () => void): void {
  try {
    task();
  } catch (error) {
    report(error, context);
  }
}

function modeToSet(mode: number, { keepsPrivileges }: MetadataChoice): number {
  const bits = mode & 0o7777;
  return keepsPrivileges ? bits : bits & ~PRIVILEGE_BITS;
}

/** The extended attributes of `inode` that are to be set. */
export async function xattrsToSet(
  fs: FileSystem,
  inode: VfsInode,
  choice: MetadataChoice,
): Promise<readonly ImageXattr[]> {
  const all = [...(await fs.xattrs(inode))];
  if (choice.keepsPrivileges) return all;
  return all.filter(([name]) => !name.startsWith("trusted.") && name !== "security.capability");
}

/** The input of `setfattr --restore`. */
async function xattrDump(
  fs: FileSystem,
  made: readonly MadeFile[],
  choice: MetadataChoice,
  context: CommandContext,
): Promise<string> {
  let dump = "";
  for (const { path, inode, xattrs } of made) {
    let lines = "";
    try {
      for (const [name, value] of xattrs ?? (await xattrsToSet(fs, inode, choice))) {
        lines += `${dumpQuoted(Buffer.from(name))}=0s${Buffer.from(value).toString("base64")}\n`;
      }
    } catch (error) {
      report(error, context);
    }
    if (lines !== "") dump += `# file: ${dumpQuoted(path)}\n${lines}\n`;
  }
  return dump;
}

/** Text of a dump: everything but plain characters as three octal digits behind a backslash. */
function dumpQuoted(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    const isPlain = byte > 0x20 && byte < 0x7f && byte !== 0x5c && byte !== 0x3d;
    text += isPlain ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, "0")}`;
  }
  return text;
}

// utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) for each record of standard input.
const PERL_TIMES = [
  'local $/ = "\\0"; my $bad = 0;',
  "while (my $line = <STDIN>) { chomp $line;",
  "  my ($as, $an, $ms, $mn, $path) = split / /, $line, 5;",
  '  my $times = pack("q4", $as, $an, $ms, $mn);',
  "  next if syscall($ARGV[0] + 0, -100, $path, $times, 256) == 0;",
  '  $bad = 1; print STDERR "$path: $!\\n"; }',
  "exit $bad;",
].join("\n");

const MKNODAT: Readonly<Record<string, number>> = { x64: 259, arm64: 33, riscv64: 33 };

/** `mknod` knows no letter for sockets, but the system call does. */
function makeSocket(path: Buffer, where: { syscall: string; path: string }): void {
  const number = process.platform === "linux" ? MKNODAT[process.arch] : undefined;
  if (number === undefined || !hasProgram("perl")) {
    throw new FsError("EOPNOTSUPP", { ...where, detail: "sockets cannot be made here" });
  }
  const call = "syscall($ARGV[0] + 0, -100, $ARGV[1], 0140600, 0) == 0 or die $!;";
  runProgram("perl", ["-e", call, String(number), path.toString()], "", where);
}

const UTIMENSAT: Readonly<Record<string, number>> = { x64: 280, arm64: 88, riscv64: 88 };

/** True for a time that Node's own calls set as it is. */
function isWhole({ sec, nsec }: Timespec): boolean {
  return nsec === 0 && sec >= 0;
}

/** Access and modification times to the nanosecond, of symlinks themselves. */
function setTimes(made: readonly MadeFile[], context: CommandContext): void {
  const fine: MadeFile[] = [];
  for (const file of made) {
    const { atime, mtime } = file.inode.attributes();
    if (!isWhole(atime) || !isWhole(mtime)) fine.push(file);
    else attempt(context, () => lutimesSync(file.path, atime.sec, mtime.sec));
  }
  if (fine.length === 0 || setTimesByPerl(fine)) return;
  const where = { syscall: "utimensat" };
  for (const { path, inode } of fine) {
    const { atime, mtime } = inode.attributes();
    const text = path.toString();
    runProgram("touch", ["-h", "-c", "-a", "-d", epochText(atime), "--", text], "", where);
    runProgram("touch", ["-h", "-c", "-m", "-d", epochText(mtime), "--", text], "", where);
  }
}

/** False if that is not to be had. */
function setTimesByPerl(made: readonly MadeFile[]): boolean {
  const number = process.platform === "linux" ? UTIMENSAT[process.arch] : undefined;
  if (number === undefined) return false;
  const records = made.map(({ path, inode }) => {
    const { atime, mtime } = inode.attributes();
    const head = `${atime.sec} ${atime.nsec} ${mtime.sec} ${mtime.nsec} `;
    return Buffer.concat([Buffer.from(head), path, Buffer.from([0])]);
  });
  try {
    const input = Buffer.concat(records);
    runProgram("perl", ["-e", PERL_TIMES, String(number)], input, { syscall: "utimensat" });
  } catch (error) {
    if (hasErrnoCode(error) && error.code === "ENOENT") return false;
    throw error;
  }
  return true;
}

/** "@-1.500000000" for touch, which takes the fraction with the sign of the whole. */
function epochText({ sec, nsec }: Timespec): string {
  const total = BigInt(sec) * 1_000_000_000n + BigInt(nsec);
  const size = total < 0n ? -total : total;
  const whole = size / 1_000_000_000n;
  const fraction = String(size % 1_000_000_000n).padStart(9, "0");
  return `@${total < 0n ? "-" : ""}${whole}.${fraction}`;
}

function hasProgram(name: string): boolean {
  return spawnSync(name, ["-e", "1"], { stdio: "ignore" }).status === 0;
}

/**
 * Runs a program of the system. Throws `ENOENT` naming it if it is missing, `EIO` with what it
 * said.
 */
function runProgram(
  name: string,
  args: readonly string[],
  input: string | Buffer,
  where: { readonly syscall: string; readonly path?: string },
): void {
  const done = spawnSync(name, args, { input, stdio: ["pipe", "ignore", "pipe"] });
  if (done.error !== undefined) {
    throw new FsError("ENOENT", { ...where, detail: `the program ${name} is needed for this` });
  }
  if (done.status === 0) return;
  const said = done.stderr.toString().trim().split("\n").slice(0, 5).join("; ");
  throw new FsError(process.getuid?.() === 0 ? "EIO" : "EPERM", { ...where, detail: said });
}
