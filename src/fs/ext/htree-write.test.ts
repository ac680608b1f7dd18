import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { ascii } from "../../../test/support/ext-names.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { listNames, newInode } from "../../../test/support/name-model.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { putLe16 } from "../../lib/bytes.ts";
import { MIB } from "../../lib/units.ts";
import { dirLookup } from "./dir.ts";
import { dirIsEmpty } from "./dir-write.ts";
import { DX } from "./htree.ts";
import type { ExtInode } from "./inode.ts";
import { EXT_ROOT_INO, INDEX_FL, S_IFDIR, S_IFREG } from "./layout.ts";
import { extCreate, extLink, extUnlink } from "./namespace.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("htree-write");
const FEATURES = "^has_journal,^resize_inode";

interface Directory {
  readonly open: OpenWriter;
  readonly dir: ExtInode;
  readonly file: ExtInode;
  add(name: string): Promise<void>;
  remove(name: string): Promise<void>;
  lookup(name: string): Promise<number>;
  root(): Uint8Array;
  judge(): Promise<string>;
}

/** A directory whose names are links of one file. */
async function directory(
  name: string,
  args: readonly string[],
  sizeText = "16M",
): Promise<Directory> {
  const open = await openWriter(makeImage(scratch, name, args, { sizeText }), {
    arenaBytes: 64 * MIB,
  });
  const { writer, core } = open;
  const make = (text: string, mode: number): Promise<ExtInode> =>
    open.run((handle) =>
      extCreate(writer, handle, core.inode(EXT_ROOT_INO), ascii(text), newInode(mode)),
    );
  const dir = await make("d", S_IFDIR | 0o755);
  const file = await make("f", S_IFREG | 0o644);
  return {
    open,
    dir,
    file,
    add: (text) => open.run((handle) => extLink(writer, handle, file, dir, ascii(text))),
    remove: async (text) => {
      await open.run((handle) => extUnlink(writer, handle, dir, ascii(text)));
    },
    lookup: async (text) => core.metadata.run(() => dirLookup(core, dir, ascii(text))),
    root: () => core.metadata.block(core.mapBlocks(dir, 0, 1).physical),
    judge: async () => {
      expect(open.warnings).toEqual([]);
      await open.close();
      const path = join(scratch, `${name}-after.img`);
      open.save(path);
      runTool("e2fsck", ["-fn", path]);
      return path;
    },
  };
}

const longName = (at: number): string => `${at}-${"n".repeat(249)}`.slice(0, 255);

describe.skipIf(!hasTools)("the index of a directory", () => {
  test("is made when the first block is full, and not before", async () => {
    const test = await directory("made", ["-t", "ext4", "-b", "1024", "-O", FEATURES]);
    // 1024 - 12 for each dot and 12 for the checksum, in records of 264.
    for (let at = 0; at < 3; at++) await test.add(longName(at));
    expect(test.dir.flags & INDEX_FL).toBe(0);
    expect(test.dir.size).toBe(1024);
    await test.add(longName(3));
    expect(test.dir.flags & INDEX_FL).not.toBe(0);
    expect((await listNames(test.open, test.dir)).size).toBe(6);
    await test.judge();
  });

  test("is not made on a volume without the feature", async () => {
    const args = ["-t", "ext4", "-b", "1024", "-O", `${FEATURES},^dir_index`];
    const test = await directory("unmade", args);
    for (let at = 0; at < 40; at++) await test.add(longName(at));
    expect(test.dir.flags & INDEX_FL).toBe(0);
    await test.judge();
  });

  test("gets inner nodes, and is read by debugfs as it is by us", async () => {
    const test = await directory("nodes", ["-t", "ext4", "-b", "1024", "-O", FEATURES]);
    for (let at = 0; at < 9000; at++) await test.add(`name-${at}`);
    expect(test.root()[DX.levels]).toBe(1);
    expect((await listNames(test.open, test.dir)).size).toBe(9002);
    for (let at = 0; at < 9000; at += 7)
      expect(await test.lookup(`name-${at}`)).toBe(test.file.ino);
    expect(await test.lookup("name-9000")).toBe(0);
    const path = await test.judge();
    const listed = runTool("debugfs", ["-R", "ls -l d", path]);
    expect(listed.match(/name-\d+/g)).toHaveLength(9000);
    expect(runTool("debugfs", ["-R", "htree_dump d", path])).toContain("Indirect levels: 1");
  });

  test("that is full refuses a name with ENOSPC; large_dir gives it one level more", async () => {
    const fill = async (features: string): Promise<Directory> => {
      const args = ["-t", "ext4", "-b", "1024", "-O", features];
      const test = await directory(`full-${features.length}`, args, "48M");
      const { writer } = test.open;
      for (let at = 0; at < 40_000; at++) {
        const adding = writer.transactions.run((handle) =>
          extLink(writer, handle, test.file, test.dir, ascii(longName(at))),
        );
        if (adding !== undefined) await adding;
      }
      return test;
    };
    await expect(fill(FEATURES)).rejects.toMatchObject({
      code: "ENOSPC",
      message: expect.stringContaining("its index is full"),
    });
    const test = await fill(`${FEATURES},large_dir`);
    expect(test.root()[DX.levels]).toBe(2);
    for (let at = 0; at < 40_000; at += 97) {
      expect(await test.lookup(longName(at))).toBe(test.file.ino);
    }
    await test.judge();
  }, 120_000);

  test("of which all names are removed is empty, and takes names again", async () => {
    const test = await directory("emptied", ["-t", "ext4", "-b", "1024", "-O", FEATURES]);
    for (let at = 0; at < 800; at++) await test.add(`name-${at}`);
    const { size } = test.dir;
    for (let at = 0; at < 800; at++) await test.remove(`name-${at}`);
    expect(dirIsEmpty(test.open.core, test.dir)).toBe(true);
    for (let at = 0; at < 800; at++) await test.add(`again-${at}`);
    expect(dirIsEmpty(test.open.core, test.dir)).toBe(false);
    expect(test.dir.size).toBeLessThan(size * 2);
    await test.judge();
  });

  test("that is damaged is given up where blocks have no checksums", async () => {
    const args = ["-t", "ext4", "-b", "1024", "-O", `${FEATURES},^metadata_csum`];
    const test = await directory("damaged", args);
    for (let at = 0; at < 100; at++) await test.add(`name-${at}`);
    await test.open.run((handle) => {
      const { physical } = test.open.core.mapBlocks(test.dir, 0, 1);
      putLe16(handle.write(physical), 0x20, 100); // limit
    });
    await test.add("one more");
    expect(test.dir.flags & INDEX_FL).toBe(0);
    expect(await test.lookup("one more")).toBe(test.file.ino);
    expect(await test.lookup("name-50")).toBe(test.file.ino);
    expect(test.open.warnings.join()).toContain("its index is damaged and given up");
    await test.open.close();
  });

  test("that is damaged is an error where they have", async () => {
    const test = await directory("refused", ["-t", "ext4", "-b", "1024", "-O", FEATURES]);
    for (let at = 0; at < 100; at++) await test.add(`name-${at}`);
    await test.open.run((handle) => {
      const { physical } = test.open.core.mapBlocks(test.dir, 0, 1);
      handle.write(physical)[DX.flags] = 1;
    });
    await expect(test.add("one more")).rejects.toMatchObject({ code: "EUCLEAN" });
    await test.open.close();
  });
});
