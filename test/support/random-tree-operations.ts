/** The changes that `RandomTree` draws from: each is done to both sides and then to the model. */
import type { FileHandle } from "node:fs/promises";
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from "../../src/fs/vfs-write.ts";
import { hasErrnoCode } from "../../src/lib/errno.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import type { ModelNode } from "./model-tree.ts";
import type { OpenPair, RandomTree, Side } from "./random-tree.ts";

type Say = (said: string) => void;
type Operation = (run: RandomTree, say: Say) => Promise<void>;

const BYTES_MAX = 12 * MIB;
const OPEN_MAX = 5;
const NAMES_MAX = 400;
const EPOCH_SEC = 1_000_000_000;

/** A name that may be there or not. */
function someName({ random }: RandomTree): string {
  const kind = random.below(20);
  if (kind === 0) return "n".repeat(255);
  if (kind === 1) return "n".repeat(256);
  if (kind === 2) return `long-${random.below(9)}-${"x".repeat(random.below(200))}`;
  return `${random.pick(["a", "b", "c", "d", "é"])}${random.below(6)}`;
}

function somePlace(run: RandomTree): string {
  const dirs = run.tree.paths("dir");
  const isDeep = dirs.length > 0 && run.random.chance(0.8);
  const dir = isDeep ? `${run.random.pick(dirs)}/` : "";
  if (dir.split("/").length > 6) return someName(run);
  return dir + someName(run);
}

/** A path that is likely to be there. */
function somePath(run: RandomTree, type?: ModelNode["type"]): string {
  const { random } = run;
  const paths = run.tree.paths(random.chance(0.9) ? type : undefined);
  const path = paths.length > 0 && random.chance(0.85) ? random.pick(paths) : somePlace(run);
  if (random.chance(0.02)) return `${path}/`;
  if (random.chance(0.02)) return `${path}/${someName(run)}`;
  return random.chance(0.02) ? `${path}/..` : path;
}

function someBytes(run: RandomTree): Uint8Array {
  const { random, tree } = run;
  if (tree.totalBytes > BYTES_MAX) return random.bytes(random.below(50));
  const most = random.pick([0, 40, 200, 1100, 5000, 30 * KIB, 150 * KIB]);
  return random.bytes(random.below(most + 1));
}

async function writeFile(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run, "file");
  const data = someBytes(run);
  const flag = run.random.pick(["w", "w", "a", "wx", "r+"]);
  say(`${path} ${data.length} ${flag}`);
  const isNew = run.tree.walk(path, true)?.node === undefined;
  const isDone = await run.both((side) => side.fs.writeFile(side.at(path), data, { flag }));
  if (!isDone) return;
  const node = isNew ? await run.noteNew(path, "file") : run.tree.walk(path, true)!.node!;
  if (flag === "w") node.setSize(0);
  node.write(flag === "a" ? node.bytes.length : 0, data);
}

async function readFile(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run, "file");
  say(path);
  await run.both((side) => side.fs.readFile(side.at(path)));
}

async function truncate(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run, "file");
  const sizeBytes = run.random.below(run.random.pick([100, 5000, 200 * KIB]));
  say(`${path} ${sizeBytes}`);
  const isDone = await run.both((side) => side.fs.truncate(side.at(path), sizeBytes));
  if (isDone) run.tree.walk(path, true)!.node!.setSize(sizeBytes);
}

async function mkdir(run: RandomTree, say: Say): Promise<void> {
  const path = run.random.chance(0.8) ? somePlace(run) : somePath(run);
  const mode = run.random.pick([0o777, 0o755, 0o700, 0o1777]);
  say(`${path} ${mode.toString(8)}`);
  const isDone = await run.both((side) => side.fs.mkdir(side.at(path), { mode }));
  if (isDone) await run.noteNew(path.replace(/\/+$/, ""), "dir");
}

/** Takes a name out of the model. */
function forget(run: RandomTree, path: string): void {
  const { dir, name, node } = run.tree.walk(path.replace(/\/+$/, ""), false)!;
  dir.names.delete(name);
  dir.mtimeSec = undefined;
  node!.nlink--;
}

async function rmdir(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run, "dir");
  say(path);
  if (await run.both((side) => side.fs.rmdir(side.at(path)))) forget(run, path);
}

async function unlink(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run, run.random.chance(0.8) ? "file" : "link");
  say(path);
  if (await run.both((side) => side.fs.unlink(side.at(path)))) forget(run, path);
}

async function rmTree(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run, "dir");
  say(path);
  const isOften = run.tree.paths().length > NAMES_MAX;
  // A path that ends in ".." would take away more than what it names.
  if ((!isOften && run.random.chance(0.8)) || path.includes("..")) return;
  const isDone = await run.both((side) => side.fs.rm(side.at(path), { recursive: true }));
  if (!isDone) return;
  const { node } = run.tree.walk(path.replace(/\/+$/, ""), false)!;
  const unlinkAll = (dir: ModelNode): void => {
    for (const child of dir.names.values()) {
      child.nlink--;
      if (child.type === "dir") unlinkAll(child);
    }
  };
  unlinkAll(node!);
  forget(run, path);
}

async function rename(run: RandomTree, say: Say): Promise<void> {
  const from = somePath(run);
  const to = run.random.chance(0.6) ? somePlace(run) : somePath(run);
  say(`${from} ${to}`);
  if (!(await run.both((side) => side.fs.rename(side.at(from), side.at(to))))) return;
  const old = run.tree.walk(from.replace(/\/+$/, ""), false)!;
  const wanted = run.tree.walk(to.replace(/\/+$/, ""), false)!;
  if (old.node === wanted.node) return; // Two names of one file stay as they are.
  if (wanted.node !== undefined) wanted.node.nlink--;
  old.dir.names.delete(old.name);
  wanted.dir.names.set(wanted.name, old.node!);
  old.dir.mtimeSec = undefined;
  wanted.dir.mtimeSec = undefined;
}

async function link(run: RandomTree, say: Say): Promise<void> {
  const from = somePath(run, "file");
  const to = somePlace(run);
  say(`${from} ${to}`);
  if (!(await run.both((side) => side.fs.link(side.at(from), side.at(to))))) return;
  const { node } = run.tree.walk(from, false)!;
  const wanted = run.tree.walk(to, false)!;
  wanted.dir.names.set(wanted.name, node!);
  wanted.dir.mtimeSec = undefined;
  node!.nlink++;
}

async function symlink(run: RandomTree, say: Say): Promise<void> {
  const path = somePlace(run);
  const { random } = run;
  // No "..", which would lead out of the real directory; short enough for a block of 1 KiB.
  const long = "./".repeat(random.below(300));
  const target = (random.chance(0.3) ? long : "") + someName(run);
  say(`${target.length} ${path}`);
  if (!(await run.both((side) => side.fs.symlink(target, side.at(path))))) return;
  const { dir, name } = run.tree.walk(path, false)!;
  const node = await run.noteNew(path, "link").catch(() => undefined);
  if (node === undefined) throw new Error(`no place for ${name} in ${dir.type}`);
  node.target = target;
}

async function lookAt(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run);
  say(path);
  const pick = ({
    mode,
    uid,
    gid,
    size,
  }: {
    mode: number;
    uid: number;
    gid: number;
    size: number;
  }) => ((mode & 0o170000) === 0o040000 ? [mode, uid, gid] : [mode, uid, gid, size]);
  await run.both(async (side) => pick(await side.fs.lstat(side.at(path))));
  await run.both(async (side) => pick(await side.fs.stat(side.at(path))));
  await run.both(async (side) => (await side.fs.readdir(side.at(path))).sort());
  await run.both((side) => side.fs.readlink(side.at(path)));
}

async function chmod(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run);
  const mode = run.random.below(0o10000);
  say(`${path} ${mode.toString(8)}`);
  if (!(await run.both((side) => side.fs.chmod(side.at(path), mode)))) return;
  const { node } = run.tree.walk(path, true)!;
  node!.mode = (node!.mode & ~0o7777) | mode;
}

async function chown(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run);
  const [uid, gid] = [run.random.below(3000), run.random.below(70_000)];
  say(`${path} ${uid} ${gid}`);
  if (!(await run.both((side) => side.fs.lchown(side.at(path), uid, gid)))) return;
  await run.takeAttributes(path, run.tree.walk(path, false)!.node!);
}

async function utimes(run: RandomTree, say: Say): Promise<void> {
  const path = somePath(run);
  const sec = EPOCH_SEC + run.random.below(EPOCH_SEC);
  say(`${path} ${sec}`);
  if (!(await run.both((side) => side.fs.lutimes(side.at(path), sec, sec)))) return;
  run.tree.walk(path, false)!.node!.mtimeSec = sec;
}

async function copyFile(run: RandomTree, say: Say): Promise<void> {
  const [from, to] = [somePath(run, "file"), somePath(run, "file")];
  say(`${from} ${to}`);
  const target = run.tree.walk(to, true)?.node;
  if (!(await run.both((side) => side.fs.copyFile(side.at(from), side.at(to))))) {
    // A copy that fails takes its target away, whatever it was.
    const isGone = await run.host.fs.lstat(run.host.at(to)).then(
      () => false,
      () => true,
    );
    if (isGone && run.tree.walk(to, false)?.node !== undefined) forget(run, to);
    return;
  }
  const source = run.tree.walk(from, true)!.node!;
  if (source === target) return;
  const node = target ?? (await run.noteNew(to, "file"));
  node.setSize(0);
  node.write(0, source.bytes);
  node.mode = source.mode;
}

async function openFile(run: RandomTree, say: Say): Promise<void> {
  if (run.open.length >= OPEN_MAX) return closeFile(run, say);
  const path = somePath(run, "file");
  const flags = run.random.pick(["r+", "a+", "w+", "wx+"]);
  say(`${path} ${flags}`);
  const isNew = run.tree.walk(path, true)?.node === undefined;
  const handles: FileHandle[] = [];
  const open = async (side: Side): Promise<void> => {
    handles.push(await side.fs.open(side.at(path), flags));
  };
  if (!(await run.both(open))) return;
  const node = isNew ? await run.noteNew(path, "file") : run.tree.walk(path, true)!.node!;
  if (flags === "w+") node.setSize(0);
  run.open.push({ host: handles[0]!, subject: handles[1]!, node });
  appends.set(run.open.at(-1)!, flags === "a+");
}

const appends = new WeakMap<OpenPair, boolean>();

async function useOpen(run: RandomTree, say: Say): Promise<void> {
  if (run.open.length === 0) return openFile(run, say);
  const { random } = run;
  const pair = random.pick(run.open);
  const { node } = pair;
  const posBytes = random.below(random.pick([100, 5000, 150 * KIB]));
  const kind = random.below(6);
  say(`${run.open.indexOf(pair)} kind ${kind} at ${posBytes}`);
  if (kind < 3) {
    const data = someBytes(run);
    const write = async (handle: FileHandle): Promise<unknown> =>
      (await handle.write(data, 0, data.length, posBytes)).bytesWritten;
    const isDone = await run.bothOpen(pair, write);
    if (isDone) node.write(appends.get(pair) === true ? node.bytes.length : posBytes, data);
  } else if (kind === 3) {
    await run.bothOpen(pair, (handle) => handle.truncate(posBytes));
    node.setSize(posBytes);
  } else if (kind === 4) {
    await run.bothOpen(pair, (handle) => handle.sync());
  } else {
    const read = async (handle: FileHandle): Promise<unknown> => {
      const into = new Uint8Array(8000);
      const { bytesRead } = await handle.read(into, 0, into.length, posBytes);
      return into.subarray(0, bytesRead);
    };
    await run.bothOpen(pair, read);
  }
}

async function closeFile(run: RandomTree, say: Say): Promise<void> {
  const at = run.random.below(Math.max(1, run.open.length));
  const [pair] = run.open.splice(at, 1);
  say(`${at}`);
  if (pair !== undefined) await run.bothOpen(pair, (handle) => handle.close());
}

/** Extended attributes, which Node has no calls for. */
async function setXattr(run: RandomTree, say: Say): Promise<void> {
  const { volume } = run.subject;
  const path = somePath(run);
  const { node } = run.tree.walk(path, true) ?? {};
  if (volume === undefined || node === undefined) return;
  const { random } = run;
  const name = `${random.pick(["user", "trusted"])}.${random.pick(["a", "bb", "long-name", "x"])}`;
  const isSet = random.chance(0.7);
  const value = random.bytes(random.below(random.pick([4, 60, 300, 3000])));
  say(`${path} ${name} ${isSet ? value.length : "none"}`);
  try {
    if (isSet) await run.subject.settle(volume.fs.setXattr(`/${path}`, name, value));
    else await run.subject.settle(volume.fs.removeXattr(`/${path}`, name));
  } catch (thrown) {
    const isMissing = hasErrnoCode(thrown) && thrown.code === "ENODATA";
    if (isMissing && !isSet && !node.xattrs.has(name)) return;
    const isLarge = hasErrnoCode(thrown) && thrown.code === "ENOSPC" && value.length > 100;
    if (isSet && isLarge) return;
    throw thrown;
  }
  if (isSet) node.xattrs.set(name, value);
  else if (!node.xattrs.delete(name)) throw new Error("an attribute went that was not there");
}

/** Space in advance and holes, which Node has no calls for. */
async function fallocate(run: RandomTree, say: Say): Promise<void> {
  const { volume } = run.subject;
  const path = somePath(run, "file");
  const { node } = run.tree.walk(path, true) ?? {};
  if (volume === undefined || node?.type !== "file") return;
  const { random } = run;
  const mode = random.pick([
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
  ]);
  const posBytes = random.below(100 * KIB);
  const lengthBytes = 1 + random.below(60 * KIB);
  say(`${path} ${mode} ${posBytes}+${lengthBytes}`);
  const inode = await run.subject.settle(volume.fs.inode(`/${path}`));
  const writer = volume.fileSystem.writer!;
  try {
    const done = Promise.resolve(writer.fallocate(inode, mode, posBytes, lengthBytes));
    await run.subject.settle(done);
  } catch (thrown) {
    if (hasErrnoCode(thrown) && thrown.code === "EOPNOTSUPP") return;
    throw thrown;
  }
  node.mtimeSec = undefined;
  if (mode === FALLOC_FL_KEEP_SIZE) return;
  node.zero(posBytes, posBytes + lengthBytes);
  await run.host.fs.writeFile(run.host.at(path), node.bytes, { flag: "r+" });
}

/** Many names in one directory, which may get an index by it. */
async function makeMany(run: RandomTree, say: Say): Promise<void> {
  const { random, tree } = run;
  if (!random.chance(0.3) || tree.paths().length > NAMES_MAX) return;
  const dir = random.pick(["", ...tree.paths("dir").map((path) => `${path}/`)]);
  if (dir.length > 1000) return;
  const length = 1 + random.below(150);
  say(`${dir} ${length}`);
  for (let count = 0; count < 50; count++) {
    const path = `${dir}many-${random.below(2000)}-${"y".repeat(length)}`;
    const isThere = tree.walk(path, true)?.node !== undefined;
    const isDone = await run.both((side) => side.fs.writeFile(side.at(path), ""));
    if (isDone && !isThere) await run.noteNew(path, "file");
    else if (isDone) tree.walk(path, true)!.node!.setSize(0);
  }
}

async function sync(run: RandomTree, say: Say): Promise<void> {
  const { volume } = run.subject;
  say(volume === undefined ? "nothing" : "");
  if (volume !== undefined) await run.subject.settle(volume.sync());
}

const times = (count: number, name: string, operation: Operation): [string, Operation][] =>
  Array.from({ length: count }, () => [name, operation]);

/** Each as often as it stands here. */
export const OPERATIONS: readonly (readonly [name: string, operation: Operation])[] = [
  ...times(14, "writeFile", writeFile),
  ...times(6, "readFile", readFile),
  ...times(4, "truncate", truncate),
  ...times(7, "mkdir", mkdir),
  ...times(4, "rmdir", rmdir),
  ...times(8, "unlink", unlink),
  ...times(3, "rm", rmTree),
  ...times(10, "rename", rename),
  ...times(4, "link", link),
  ...times(3, "symlink", symlink),
  ...times(6, "look", lookAt),
  ...times(3, "chmod", chmod),
  ...times(3, "chown", chown),
  ...times(3, "utimes", utimes),
  ...times(3, "copyFile", copyFile),
  ...times(5, "open", openFile),
  ...times(12, "use", useOpen),
  ...times(3, "close", closeFile),
  ...times(6, "setXattr", setXattr),
  ...times(3, "fallocate", fallocate),
  ...times(1, "makeMany", makeMany),
  ...times(1, "sync", sync),
];
