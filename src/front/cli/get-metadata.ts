/**
 * Owners, extended attributes, modes and times of extracted files, and device nodes.
 *
 * Node has no call for extended attributes, device nodes, or times in nanoseconds, so the system's
 * own programs set them: `setfattr`, `mknod`, and `perl` or `touch`. Each runs once for all files
 * where it can.
 *
 *     order   owner, xattrs, mode, times: each would undo a later one; the innermost first
 */
import { isUtf8 } from "node:buffer";
import { spawnSync } from "node:child_process";
import { chmodSync, lchownSync } from "node:fs";
import type { FileSystem, Timespec, VfsInode } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";
import { type CommandContext, report } from "./command.ts";

/** A file that was made, and the inode that it is a copy of. */
export interface MadeFile {
  readonly path: Buffer;
  readonly inode: VfsInode;
}

/** What is set besides mode and times. */
export interface MetadataChoice {
  readonly setsOwner: boolean;
  readonly setsXattrs: boolean;
  readonly keepsPrivileges: boolean;
}

const PRIVILEGE_BITS = 0o6000;

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
 * Sets everything, in the order that keeps it. What fails is reported and does not stop the rest.
 */
export async function applyMetadata(
  fs: FileSystem,
  made: readonly MadeFile[],
  choice: MetadataChoice,
  context: CommandContext,
): Promise<void> {
  const attempt = (task: () => void): void => {
    try {
      task();
    } catch (error) {
      report(error, context);
    }
  };
  if (choice.setsOwner) {
    for (const { path, inode } of made) {
      const { uid, gid } = inode.attributes();
      attempt(() => lchownSync(path, uid, gid));
    }
  }
  if (choice.setsXattrs) {
    const dump = await xattrDump(fs, made, choice);
    const where = { syscall: "setxattr" };
    attempt(() => {
      if (dump !== "") runProgram("setfattr", ["-h", "--restore=-"], dump, where);
    });
  }
  // The innermost first: a directory that loses its x bit would hide what is in it.
  for (let at = made.length - 1; at >= 0; at--) {
    const { path, inode } = made[at]!;
    if (inode.type === "symlink") continue;
    const bits = inode.attributes().mode & 0o7777;
    const mode = choice.keepsPrivileges ? bits : bits & ~PRIVILEGE_BITS;
    attempt(() => chmodSync(path, mode));
  }
  attempt(() => setTimes([...made].reverse()));
}

/** The input of `setfattr --restore`. */
async function xattrDump(
  fs: FileSystem,
  made: readonly MadeFile[],
  choice: MetadataChoice,
): Promise<string> {
  let dump = "";
  for (const { path, inode } of made) {
    let lines = "";
    for (const [name, value] of await fs.xattrs(inode)) {
      const isPrivileged = name.startsWith("trusted.") || name === "security.capability";
      if (isPrivileged && !choice.keepsPrivileges) continue;
      lines += `${dumpQuoted(Buffer.from(name))}=0s${Buffer.from(value).toString("base64")}\n`;
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

/** Access and modification times to the nanosecond, of symlinks themselves. */
function setTimes(made: readonly MadeFile[]): void {
  const where = { syscall: "utimensat" };
  const number = process.platform === "linux" ? UTIMENSAT[process.arch] : undefined;
  if (number !== undefined && hasProgram("perl")) {
    const records = made.map(({ path, inode }) => {
      const { atime, mtime } = inode.attributes();
      const head = `${atime.sec} ${atime.nsec} ${mtime.sec} ${mtime.nsec} `;
      return Buffer.concat([Buffer.from(head), path, Buffer.from([0])]);
    });
    runProgram("perl", ["-e", PERL_TIMES, String(number)], Buffer.concat(records), where);
    return;
  }
  for (const { path, inode } of made) {
    const { atime, mtime } = inode.attributes();
    const text = path.toString();
    runProgram("touch", ["-h", "-c", "-a", "-d", epochText(atime), "--", text], "", where);
    runProgram("touch", ["-h", "-c", "-m", "-d", epochText(mtime), "--", text], "", where);
  }
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
