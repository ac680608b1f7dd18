/** An image's tree as a tar stream: quire's reading half beside tar-stream's packing. */
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { pack as makePack } from "tar-stream";
import { openImage } from "../dist/index.js";

const CHUNK = 1024 * 1024;

async function addFile(fs, path, header, pack) {
  await new Promise((resolve, reject) => {
    const entry = pack.entry(header, (error) => (error ? reject(error) : resolve()));
    const run = async () => {
      const handle = await fs.open(path);
      for (let left = header.size; left > 0; ) {
        const buffer = Buffer.allocUnsafe(Math.min(CHUNK, left));
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
        if (bytesRead === 0) throw new Error(`${path} ended early`);
        left -= bytesRead;
        const chunk = buffer.subarray(0, bytesRead);
        if (!entry.write(chunk)) await new Promise((next) => entry.once("drain", next));
      }
      entry.end();
      await handle.close();
    };
    run().catch(reject);
  });
}

async function addTree(fs, path, pack) {
  for (const entry of await fs.readdir(path, { withFileTypes: true })) {
    const below = path === "/" ? `/${entry.name}` : `${path}/${entry.name}`;
    const { mode, mtime, size, uid, gid } = await fs.lstat(below);
    const header = { name: below.slice(1), mode: mode & 0o7777, mtime, uid, gid };
    if (entry.isDirectory()) {
      pack.entry({ ...header, type: "directory" });
      await addTree(fs, below, pack);
    } else if (entry.isSymbolicLink()) {
      pack.entry({ ...header, type: "symlink", linkname: await fs.readlink(below) });
    } else if (entry.isFile()) {
      await addFile(fs, below, { ...header, size }, pack);
    }
  }
}

/** Writes the tree of `image` as a tar file to `to`. */
export async function tarOut(image, to) {
  const volume = await openImage(image);
  const pack = makePack();
  const written = pipeline(pack, createWriteStream(to));
  await addTree(volume.fs, "/", pack);
  pack.finalize();
  await written;
  await volume.close();
}
