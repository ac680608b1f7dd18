/**
 * An image's tree as a tar stream: quire's reading half beside tar-stream's packing.
 *
 * Small files are asked for some way ahead, all at once: their reads lie side by side on the disk, so
 * the block layer joins them into few large requests.
 */
import { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { pack as makePack } from "tar-stream";
import { openImage } from "../dist/index.js";

const CHUNK_BYTES = 1024 * 1024;
const SMALL_BYTES = 256 * 1024;
const FILES_AHEAD = 64;

function joined(path, name) {
  return path === "/" ? `/${name}` : `${path}/${name}`;
}

/** What tar has to know of one file, and its content on the way if it is small. */
async function itemOf(fs, path) {
  const stats = await fs.lstat(path);
  const { mode, mtime, size, uid, gid } = stats;
  const header = { name: path.slice(1), mode: mode & 0o7777, mtime, uid, gid };
  if (stats.isDirectory()) return { path, header: { ...header, type: "directory" } };
  if (stats.isSymbolicLink()) {
    return { path, header: { ...header, type: "symlink", linkname: await fs.readlink(path) } };
  }
  if (!stats.isFile()) return undefined;
  const content = size <= SMALL_BYTES ? await fs.readFile(path) : undefined;
  return { path, header: { ...header, size }, content };
}

async function addTree(fs, path, pack) {
  const names = await fs.readdir(path);
  for (let at = 0; at < names.length; at += FILES_AHEAD) {
    const some = names.slice(at, at + FILES_AHEAD);
    for (const item of await Promise.all(some.map((name) => itemOf(fs, joined(path, name))))) {
      if (item === undefined) continue;
      await add(fs, item, pack);
      if (item.header.type === "directory") await addTree(fs, item.path, pack);
    }
  }
}

async function addLarge(fs, { path, header }, pack) {
  const handle = await fs.open(path);
  const entry = pack.entry(header);
  for (let left = header.size; left > 0; ) {
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, left));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) throw new Error(`${path} ended early`);
    left -= bytesRead;
    if (!entry.write(buffer.subarray(0, bytesRead))) {
      await new Promise((next) => entry.once("drain", next));
    }
  }
  entry.end();
  await handle.close();
}

async function add(fs, item, pack) {
  if (item.content !== undefined) pack.entry(item.header, item.content);
  else if (item.header.size > 0) await addLarge(fs, item, pack);
  else pack.entry(item.header);
}

/** Packs the tree of `image` and hands it to nobody; returns the bytes of the stream. */
export async function tarOut(image) {
  const volume = await openImage(image);
  const pack = makePack();
  let streamed = 0;
  const sink = new Writable({
    write(chunk, _encoding, done) {
      streamed += chunk.length;
      done();
    },
  });
  const written = pipeline(pack, sink);
  await addTree(volume.fs, "/", pack);
  pack.finalize();
  await written;
  await volume.close();
  return streamed;
}
