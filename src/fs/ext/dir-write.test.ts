import { describe, expect, test, vi } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { ascii } from "../../../test/support/ext-names.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { listNames, newInode } from "../../../test/support/name-model.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { Random } from "../../lib/random.ts";
import { encodeNoKeyName } from "./crypt-name.ts";
import { dirLookup } from "./dir.ts";
import type { LinearSearch } from "./dir-search.ts";
import { dirAdd, dirRemove, dirVersion } from "./dir-write.ts";
import type { ExtInode } from "./inode.ts";
import { ENCRYPT_FL, EXT_ROOT_INO, INLINE_DATA_FL, S_IFDIR, S_IFREG } from "./layout.ts";
import { extCreate, extUnlink } from "./namespace.ts";

const hasMke2fs = requireTool("mke2fs");
const scratch = scratchDirectory("dir-write");
const LINEAR = ["-t", "ext2", "-b", "1024", "-O", "^dir_index"];

interface Directory {
  readonly open: OpenWriter;
  readonly dir: ExtInode;
  readonly file: ExtInode;
  add(name: string): Promise<void>;
  remove(name: string): Promise<number>;
  lookup(name: string, search?: LinearSearch): Promise<number>;
}

async function directory(name: string, args: readonly string[]): Promise<Directory> {
  const open = await openWriter(makeImage(scratch, name, args, { sizeText: "16M" }));
  const { writer, core } = open;
  const make = (text: string, mode: number): Promise<ExtInode> =>
    open.run((handle) =>
      extCreate(writer, handle, core.inode(EXT_ROOT_INO), ascii(text), newInode(mode)),
    );
  const dir = await make("d", S_IFDIR | 0o755);
  const file = await make("f", S_IFREG | 0o644);
  return {
    ...{ open, dir, file },
    add: (text) => open.run((handle) => dirAdd(writer, handle, dir, ascii(text), file.ino, "file")),
    remove: (text) => open.run((handle) => dirRemove(writer, handle, dir, ascii(text))),
    lookup: async (text, search) =>
      core.metadata.run(() => dirLookup(core, dir, ascii(text), search)),
  };
}

describe.skipIf(!hasMke2fs)("a linear directory", () => {
  test("takes thousands of names at a few blocks each, also between lookups", async () => {
    const { open, add, lookup, file } = await directory("hints", LINEAR);
    for (let at = 0; at < 200; at++) await add(`warm-${at}`);
    const verified = vi.spyOn(open.core.metadata, "verified");
    for (let at = 0; at < 3000; at++) {
      await add(`name-${at}`);
      expect(await lookup(`name-${at}`)).toBe(file.ino);
      expect(await lookup(`absent-${at}`)).toBe(0);
    }
    // Searched from the first block on, 3,000 names in 80 blocks would be 250,000.
    expect(verified.mock.calls.length).toBeLessThan(3000 * 6);
    await open.close();
  });

  test("fills the gaps that names leave", async () => {
    const { open, dir, add, remove } = await directory("gaps", LINEAR);
    for (let at = 0; at < 500; at++) await add(`name-${at}`);
    const { size } = dir;
    for (let round = 0; round < 3; round++) {
      for (let at = 0; at < 500; at++) await remove(`name-${at}`);
      for (let at = 499; at >= 0; at--) await add(`name-${at}`);
    }
    expect(dir.size).toBe(size);
    expect((await listNames(open, dir)).size).toBe(502);
    await open.close();
  });

  test("remembers nothing of an operation that was taken back", async () => {
    const { open, dir, file, add, lookup } = await directory("undone", LINEAR);
    for (let at = 0; at < 300; at++) await add(`name-${at}`);
    const random = new Random(3);
    for (let round = 0; round < 30; round++) {
      const failing = open.run((handle) => {
        for (let at = 0; at < 60; at++) {
          const name = ascii(`lost-${round}-${at}`);
          dirAdd(open.writer, handle, dir, name, file.ino, "file");
        }
        dirRemove(open.writer, handle, dir, ascii(`name-${random.below(300)}`));
        throw new RangeError("on purpose");
      });
      await expect(failing).rejects.toThrow("on purpose");
      expect(await lookup(`lost-${round}-0`)).toBe(0);
    }
    for (let at = 0; at < 300; at++) expect(await lookup(`name-${at}`)).toBe(file.ino);
    expect((await listNames(open, dir)).size).toBe(302);
    await open.close();
  });

  test("that changes while a search waits is searched from its beginning", async () => {
    const { open, dir, file, add, remove, lookup } = await directory("moved", LINEAR);
    for (let at = 0; at < 100; at++) await add(`name-${at}`);
    const search: LinearSearch = { fileBlock: 0 };
    expect(await lookup("late", search)).toBe(0);
    expect(search.fileBlock).toBeGreaterThan(1);
    const before = dirVersion(dir);
    await remove("name-0");
    await add("late");
    expect(dirVersion(dir)).toBeGreaterThan(before);
    expect(await lookup("late", search)).toBe(file.ino);
    await open.close();
  });
});

describe.skipIf(!hasMke2fs)("an inline directory", () => {
  test("grows in its inode, then into a block, at the names where Linux's does", async () => {
    const args = ["-t", "ext4", "-b", "1024", "-I", "256", "-O", "^has_journal,inline_data"];
    const { open, dir, add } = await directory("inline", args);
    const sizes: number[] = [dir.size];
    for (let at = 1; at <= 10; at++) {
      await add(`n${String(at).padStart(2, "0")}`);
      sizes.push(dir.size);
    }
    expect(sizes).toEqual([60, 60, 60, 60, 60, 128, 128, 128, 128, 128, 1024]);
    expect(dir.flags & INLINE_DATA_FL).toBe(0);
    expect((await listNames(open, dir)).size).toBe(12);
    await open.close();
  });
});

describe.skipIf(!hasMke2fs)("an encrypted directory", () => {
  test("gives up names that are shown without the key, and takes none", async () => {
    const args = ["-t", "ext4", "-b", "1024", "-O", "^has_journal,encrypt"];
    const { open, dir, add, file } = await directory("encrypted", args);
    const stored = "ciphertext-of-at-least-16-bytes";
    await add(stored);
    await open.run((handle) => {
      open.writer.editInode(handle, dir);
      dir.flags = (dir.flags | ENCRYPT_FL) >>> 0;
    });
    await expect(add("another name of 16")).rejects.toMatchObject({ code: "ENOKEY" });
    const shown = encodeNoKeyName({ major: 0, minor: 0 }, ascii(stored));
    const inode = await open.run((handle) => extUnlink(open.writer, handle, dir, shown));
    expect(inode).toBe(file);
    expect((await listNames(open, dir)).size).toBe(2);
    await open.close();
  });
});
