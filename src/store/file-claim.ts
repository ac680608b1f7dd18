/**
 * A claim on an image file: at most one writer of it at a time, and none while the system itself
 * has it in use. Needs Node.
 *
 *     claimed by      abstract socket "quire:<device>:<inode>"    Linux: ends with its process
 *                     "<path>.quire-lock"                         elsewhere: has the process id
 *     looked at too   /sys/block/loop<n>, /proc/locks             loop devices, virtual machines
 *
 * The claim keeps nobody from reading. It is advice: another program that does not ask is not
 * stopped, and processes in other network namespaces do not see each other's sockets.
 */
import { readdir, readFile, realpath, unlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { platform } from "node:os";
import { FsError, hasErrnoCode } from "../lib/errno.ts";

const LOOP_FOLDER = "/sys/block";
const LOCKS_FILE = "/proc/locks";
const MISSING_CODES: readonly string[] = ["ENOENT", "EACCES", "ENOTDIR", "ENODEV"];

/** Gives a claim back. */
export type Release = () => Promise<void>;

/** What a claim is on. */
export interface ClaimedFile {
  readonly path: string;
  /** `st_dev` and `st_ino`. */
  readonly dev: bigint;
  readonly ino: bigint;
}

function busy(path: string, detail: string): FsError {
  return new FsError("EBUSY", { syscall: "open", path, detail });
}

/**
 * The text of a file that may not be there: other systems have none, and a loop device that is
 * detached takes its attributes away (`ENODEV` for who is about to read one).
 */
async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (thrown) {
    const isMissing = hasErrnoCode(thrown) && MISSING_CODES.includes(thrown.code);
    if (isMissing) return "";
    throw thrown;
  }
}

/** Throws `EBUSY` if a loop device writes the file. */
async function checkLoopDevices(path: string): Promise<void> {
  const names = await readdir(LOOP_FOLDER).catch(() => []);
  const loops = names.filter((name) => name.startsWith("loop"));
  if (loops.length === 0) return;
  const real = await realpath(path);
  for (const name of loops) {
    const backing = (await textOf(`${LOOP_FOLDER}/${name}/loop/backing_file`)).trimEnd();
    if (backing !== real) continue;
    const isReadOnly = (await textOf(`${LOOP_FOLDER}/${name}/ro`)).trim() === "1";
    if (!isReadOnly)
      throw busy(path, `the loop device /dev/${name} is made of it: detach that first`);
  }
}

/** Throws `EBUSY` if a virtual machine has locked the file, as QEMU does (`F_OFD_SETLK`). */
async function checkLocks({ path, dev, ino }: ClaimedFile): Promise<void> {
  const hex = (value: bigint): string => value.toString(16).padStart(2, "0");
  const [major, minor] = [(dev >> 8n) & 0xfffn, (dev & 0xffn) | ((dev >> 12n) & 0xfff00n)];
  const place = `${hex(major)}:${hex(minor)}:${ino}`;
  for (const line of (await textOf(LOCKS_FILE)).split("\n")) {
    const [, kind, , , , where] = line.trim().split(/\s+/);
    if (kind === "OFDLCK" && where === place) {
      throw busy(path, "another program, a virtual machine perhaps, has locked it");
    }
  }
}

/** A listening socket without a file: the name is free again when the process ends. */
function claimSocket({ path, dev, ino }: ClaimedFile): Promise<Release> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === "EADDRINUSE";
      reject(
        isTaken ? busy(path, "it is open for writing elsewhere, and one at a time may") : error,
      );
    });
    server.listen(`\0quire:${dev}:${ino}`, () => {
      server.unref();
      resolve(() => new Promise((closed) => server.close(() => closed())));
    });
  });
}

/** True if the process that wrote the lock file is there. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function claimLockFile({ path }: ClaimedFile): Promise<Release> {
  const lock = `${await realpath(path)}.quire-lock`;
  for (let tries = 1; ; tries++) {
    try {
      await writeFile(lock, `${process.pid}\n`, { flag: "wx" });
      return () => unlink(lock);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
    }
    const pid = Number.parseInt(await textOf(lock), 10);
    if (Number.isNaN(pid) || isAlive(pid) || tries > 1) {
      throw busy(path, `it is open for writing elsewhere: ${lock} says by process ${pid}`);
    }
    await unlink(lock); // Of a process that was killed.
  }
}

/**
 * Claims the regular file for writing, until the returned function is called or the process ends.
 *
 * @throws {FsError} `EBUSY`, with a sentence about who has it
 */
export async function claimFile(file: ClaimedFile): Promise<Release> {
  if (platform() !== "linux") return claimLockFile(file);
  await checkLoopDevices(file.path);
  await checkLocks(file);
  return claimSocket(file);
}
