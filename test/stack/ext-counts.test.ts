/** How few requests reach the store below a file system: counts, which carry no noise. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { filemapRead } from "../../src/cache/filemap.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { inodeAt, makeImage, namesOf, openImage, readFile } from "../support/ext-images.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasMke2fs = requireTool("mke2fs");
const scratch = scratchDirectory("ext-counts");
const LARGE_BYTES = 40 * MIB;

describe.skipIf(!hasMke2fs)("an ext4 image of 2,000 small files and a large one", () => {
  let image = "";
  beforeAll(() => {
    const source = join(scratch, "source");
    for (let dir = 0; dir < 20; dir++) {
      mkdirSync(join(source, `dir-${dir}`), { recursive: true });
      for (let at = 0; at < 100; at++)
        writeFileSync(join(source, `dir-${dir}/file-${at}`), `${at}`);
    }
    writeFileSync(join(source, "large"), new Random(3).bytes(LARGE_BYTES));
    image = makeImage(scratch, "counts", ["-t", "ext4"], { sizeText: "600M", sourceDir: source });
  });

  test("is walked with a request for each run of inode table and directories, then with none", async () => {
    await using mounted = await openImage(image);
    const { fs, store } = mounted;
    const walk = async (): Promise<number> => {
      let count = 0;
      const root = await fs.inode(fs.rootIno);
      for (const [, ino] of await namesOf(fs, root)) {
        const inode = await fs.inode(ino);
        if (inode.type !== "directory") continue;
        for (const [, child] of await namesOf(fs, inode)) {
          expect((await fs.inode(child)).attributes().nlink).toBe(1);
          count++;
        }
      }
      return count;
    };
    store.reset();
    expect(await walk()).toBe(2000);
    // Inode table: 2,000 inodes of 256 bytes are one run. Each of 21 directories is one run.
    expect(store.reads).toBeLessThanOrEqual(1 + 22);
    store.reset();
    await walk();
    expect(store.reads).toBe(0);
  });

  test("a walk that is cached makes no promise", async () => {
    await using mounted = await openImage(image);
    const { fs } = mounted;
    await namesOf(fs, await inodeAt(fs, "dir-3"));
    await inodeAt(fs, "dir-3/file-7");
    const root = fs.inode(fs.rootIno);
    expect(root).not.toBeInstanceOf(Promise);
    if (root instanceof Promise) return;
    expect(fs.lookup(root, new TextEncoder().encode("dir-3"))).toEqual(expect.any(Number));
    expect(fs.readdir(root, 0)).not.toBeInstanceOf(Promise);
  });

  test("a sequential read asks for at most a few more requests than there are megabytes", async () => {
    await using mounted = await openImage(image, { arenaBytes: 64 * MIB });
    const inode = await inodeAt(mounted.fs, "large");
    mounted.store.reset();
    await readFile(mounted.fs, inode, MIB);
    expect(mounted.store.reads).toBeLessThanOrEqual(LARGE_BYTES / MIB + 5);
    mounted.store.reset();
    await readFile(mounted.fs, inode, 4096);
    expect(mounted.store.reads).toBe(0);
    expect(mounted.store.writes).toBe(0);
  });

  test("random pages cost one request each once the map is cached", async () => {
    await using mounted = await openImage(image, { arenaBytes: 64 * MIB });
    const { fs, store } = mounted;
    const inode = await inodeAt(fs, "large");
    const iocb = { file: await fs.openFile(inode), posBytes: 0, flags: 0 };
    const into = new Uint8Array(4096);
    const random = new Random(5);
    const read = async (page: number): Promise<void> => {
      iocb.posBytes = page * 4096;
      expect(await filemapRead(iocb, into)).toBe(4096);
    };
    await read(0);
    await read(5000);
    store.reset();
    const pages = new Set<number>();
    while (pages.size < 100) pages.add(600 + 16 * random.below(270));
    for (const page of pages) await read(page);
    expect(store.reads).toBe(pages.size);
  });

  test("random pages of a cache of 4 MiB come through whole, whatever was evicted", async () => {
    await using mounted = await openImage(image, { arenaBytes: 4 * MIB });
    const inode = await inodeAt(mounted.fs, "large");
    const wanted = new Random(3).bytes(LARGE_BYTES);
    const content = await readFile(mounted.fs, inode, 100_000);
    expect(Buffer.compare(content, wanted)).toBe(0);
    mounted.cache.verify();
  });
});
