/**
 * What the bench reads: one ext4 image with many small files and one large one, made once by mke2fs.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const MIB = 1024 * 1024;
export const SMALL_FILES = 2000;
export const SMALL_DIRECTORIES = 50;
export const LARGE_BYTES = 200 * MIB;

const folder = fileURLToPath(new URL("../.quire/bench/", import.meta.url));

/** Bytes that do not compress, the same ones every time. */
function noise(lengthBytes, seed) {
  const words = new Uint32Array(Math.ceil(lengthBytes / 4));
  let state = seed >>> 0 || 1;
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return new Uint8Array(words.buffer, 0, lengthBytes);
}

/** The path of the image, and of the directory that it was made from. */
export function benchImage() {
  const image = `${folder}bench.img`;
  const tree = `${folder}tree`;
  if (existsSync(image)) return { image, tree };
  rmSync(folder, { recursive: true, force: true });
  for (let at = 0; at < SMALL_FILES; at++) {
    const directory = `${tree}/small/d${at % SMALL_DIRECTORIES}`;
    if (at < SMALL_DIRECTORIES) mkdirSync(directory, { recursive: true });
    writeFileSync(`${directory}/f${at}`, noise(1 + ((at * 7919) % 16384), at + 1));
  }
  writeFileSync(`${tree}/large.bin`, noise(LARGE_BYTES, 4711));
  const options = ["-q", "-F", "-t", "ext4", "-b", "4096", "-d", tree];
  execFileSync("mke2fs", [...options, `${image}.new`, "1G"], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, MKE2FS_SYNC: "0" },
  });
  renameSync(`${image}.new`, image);
  return { image, tree };
}
