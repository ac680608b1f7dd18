import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { ascii } from "../../../test/support/ext-names.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { newInode } from "../../../test/support/name-model.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { equalBytes, hexOf, le32 } from "../../lib/bytes.ts";
import { Random } from "../../lib/random.ts";
import { KIB } from "../../lib/units.ts";
import { XATTR_CREATE, XATTR_REPLACE } from "../vfs-write.ts";
import { evictInode } from "./evict.ts";
import type { ExtInode } from "./inode.ts";
import { EXT_ROOT_INO, IMMUTABLE_FL, S_IFDIR, S_IFLNK, S_IFREG } from "./layout.ts";
import { extCreate, extUnlink } from "./namespace.ts";
import { blockEntries, readXattrs } from "./xattr.ts";
import { XH } from "./xattr-area.ts";
import { setXattr } from "./xattr-write.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("xattr-write");

function image(name: string, args: readonly string[]): string {
  return makeImage(scratch, name, args, { sizeText: "16M" });
}

function make(open: OpenWriter, name: string, mode = S_IFREG | 0o644): Promise<ExtInode> {
  const target = ascii("target");
  return open.run((handle) => {
    const root = open.core.inode(EXT_ROOT_INO);
    return extCreate(open.writer, handle, root, ascii(name), newInode(mode, { target }));
  });
}

function set(
  open: OpenWriter,
  inode: ExtInode,
  name: string,
  value: Uint8Array | null,
  flags = 0,
): Promise<void> {
  return open.run((handle) => setXattr(open.writer, handle, inode, name, value, flags));
}

async function shown(open: OpenWriter, inode: ExtInode): Promise<ReadonlyMap<string, Uint8Array>> {
  return open.core.metadata.run(() => readXattrs(open.core, inode));
}

/** Closes the writer, and lets e2fsck see the image. */
async function judge(open: OpenWriter, name: string): Promise<string> {
  expect(open.warnings).toEqual([]);
  await open.close();
  const path = join(scratch, `${name}-after.img`);
  open.save(path);
  runTool("e2fsck", ["-fn", path]);
  return path;
}

const ORDINARY = ["-t", "ext4", "-b", "1024", "-O", "^has_journal"];
const FORMATS: readonly (readonly [string, readonly string[]])[] = [
  ["ext4, inodes of 256 bytes", ORDINARY],
  [
    "ext4, inodes of 1 KiB in blocks of 4 KiB",
    ["-t", "ext4", "-b", "4096", "-I", "1024", "-O", "^has_journal"],
  ],
  ["ext2, inodes of 128 bytes", ["-t", "ext2", "-b", "1024", "-I", "128"]],
  ["ext4 with values in inodes", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,ea_inode"]],
  ["ext4 with data in inodes", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,inline_data"]],
  ["ext4 without checksums", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,^metadata_csum"]],
];
const NAMES = [
  "user.a",
  "user.bb",
  "user.long-name-of-an-attribute",
  "trusted.t",
  "security.s",
  "user.c\udcff",
];
const SIZES = [0, 1, 3, 4, 17, 60, 100, 300, 900];

describe.skipIf(!hasTools)("random changes of attributes", () => {
  for (const [index, [what, args]] of FORMATS.entries()) {
    test(`agree with a model and with e2fsck: ${what}`, async () => {
      const name = `model-${index}`;
      const open = await openWriter(image(name, args));
      const random = new Random(300 + index);
      const sizes = what.includes("values in inodes") ? [...SIZES, 2000, 5000] : SIZES;
      const files: { inode: ExtInode; model: Map<string, Uint8Array> }[] = [];
      for (let at = 0; at < 6; at++) {
        const mode = at < 3 ? S_IFREG | 0o644 : S_IFDIR | 0o755;
        files.push({ inode: await make(open, `f${at}`, mode), model: new Map() });
      }
      let refused = 0;
      for (let step = 0; step < 600; step++) {
        const { inode, model } = random.pick(files);
        const key = random.pick(NAMES);
        if (random.below(3) === 0) {
          const removing = set(open, inode, key, null);
          if (model.has(key)) await removing;
          else await expect(removing).rejects.toMatchObject({ code: "ENODATA" });
          model.delete(key);
          continue;
        }
        const value = random.bytes(random.pick(sizes));
        try {
          await set(open, inode, key, value);
          model.set(key, value);
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: "ENOSPC" });
          refused++;
        }
      }
      expect(refused > 0).toBe(!what.includes("values in inodes") && !what.includes("4 KiB"));
      for (const { inode, model } of files) {
        const found = await shown(open, inode);
        expect([...found.keys()].sort()).toEqual([...model.keys()].sort());
        for (const [key, value] of model) expect(equalBytes(found.get(key)!, value)).toBe(true);
      }
      await judge(open, name);
    });
  }
});

describe.skipIf(!hasTools)("setXattr", () => {
  test("follows its flags", async () => {
    const open = await openWriter(image("flags", ORDINARY));
    const file = await make(open, "f");
    await expect(set(open, file, "user.a", ascii("1"), XATTR_REPLACE)).rejects.toMatchObject({
      code: "ENODATA",
    });
    await set(open, file, "user.a", ascii("1"), XATTR_CREATE);
    await expect(set(open, file, "user.a", ascii("2"), XATTR_CREATE)).rejects.toMatchObject({
      code: "EEXIST",
    });
    await set(open, file, "user.a", ascii("3"), XATTR_REPLACE);
    expect((await shown(open, file)).get("user.a")).toEqual(ascii("3"));
    await expect(set(open, file, "user.a", ascii("4"), 4)).rejects.toMatchObject({
      code: "EINVAL",
    });
    await judge(open, "flags");
  });

  const refusals: readonly (readonly [string, string, number, string])[] = [
    ["no name", "", 1, "ERANGE"],
    ["a name of 256 bytes", `user.${"n".repeat(251)}`, 1, "ERANGE"],
    ["a prefix alone", "user.", 1, "EINVAL"],
    ["what holds inline data", "system.data", 1, "EOPNOTSUPP"],
    ["an unknown prefix", "other.a", 1, "EOPNOTSUPP"],
    ["a value above 64 KiB", "user.a", 64 * KIB + 1, "E2BIG"],
    ["a value that no block holds", "user.a", 1000, "ENOSPC"],
  ];
  for (const [what, name, size, code] of refusals) {
    test(`refuses ${what} with ${code}, and changes nothing`, async () => {
      const open = await openWriter(image("refusal", ORDINARY));
      const file = await make(open, "f");
      await set(open, file, "user.kept", ascii("x"));
      const before = hexOf(file.raw);
      await expect(set(open, file, name, new Uint8Array(size))).rejects.toMatchObject({ code });
      expect(hexOf(file.raw)).toBe(before);
      await open.close();
    });
  }

  test("refuses user attributes of a symlink, and any of what is immutable", async () => {
    const open = await openWriter(image("eperm", ORDINARY));
    const link = await make(open, "l", S_IFLNK | 0o777);
    await expect(set(open, link, "user.a", ascii("1"))).rejects.toMatchObject({ code: "EPERM" });
    await set(open, link, "trusted.a", ascii("1"));
    const file = await make(open, "f");
    await open.run((handle) => {
      open.writer.editInode(handle, file);
      file.flags |= IMMUTABLE_FL;
    });
    await expect(set(open, file, "trusted.a", ascii("1"))).rejects.toMatchObject({ code: "EPERM" });
    await judge(open, "eperm");
  });

  test("copies a block that another inode shares, which keeps what it had", async () => {
    const open = await openWriter(image("shared", ["-t", "ext2", "-b", "1024", "-I", "128"]));
    const first = await make(open, "first");
    const second = await make(open, "second");
    await set(open, first, "user.a", ascii("one"));
    const block = first.fileAclBlock;
    await open.run((handle) => {
      open.writer.editInode(handle, second);
      second.fileAclBlock = block;
      second.sectorCount = first.sectorCount;
      handle.write(block)[XH.refcount] = 2;
    });
    await set(open, second, "user.b", ascii("two"));
    expect(second.fileAclBlock).not.toBe(block);
    expect([...(await shown(open, first)).keys()]).toEqual(["user.a"]);
    expect([...(await shown(open, second)).keys()].sort()).toEqual(["user.a", "user.b"]);
    expect(le32(open.core.metadata.block(block), XH.refcount)).toBe(1);
    await judge(open, "shared");
  });

  describe("of two inodes that share a block, and by it a value", () => {
    const args = ["-t", "ext4", "-b", "1024", "-I", "128", "-O", "^has_journal,ea_inode"];
    const value = new Random(4).bytes(3000);

    async function sharing(name: string): Promise<[OpenWriter, ExtInode, ExtInode]> {
      const open = await openWriter(image(name, args));
      const first = await make(open, "first");
      const second = await make(open, "second");
      await set(open, first, "user.huge", value);
      await set(open, first, "user.small", ascii("1"));
      await open.run((handle) => {
        open.writer.editInode(handle, second);
        second.fileAclBlock = first.fileAclBlock;
        second.sectorCount = first.sectorCount;
        handle.write(first.fileAclBlock)[XH.refcount] = 2;
      });
      return [open, first, second];
    }

    test("leaves the value to the one when the other removes it", async () => {
      const [open, first, second] = await sharing("removed");
      await set(open, second, "user.huge", null);
      expect((await shown(open, first)).get("user.huge")).toEqual(value);
      expect([...(await shown(open, second)).keys()]).toEqual(["user.small"]);
      await judge(open, "removed");
    });

    test("counts both when they come to have blocks of their own", async () => {
      const [open, first, second] = await sharing("parted");
      await set(open, second, "user.small", ascii("2"));
      expect(first.fileAclBlock).not.toBe(second.fileAclBlock);
      await set(open, first, "user.huge", null);
      expect((await shown(open, second)).get("user.huge")).toEqual(value);
      await judge(open, "parted");
    });
  });

  test("sorts what it puts into a block, as Linux wants to find it", async () => {
    const open = await openWriter(image("sorted", ["-t", "ext2", "-b", "1024", "-I", "128"]));
    const file = await make(open, "f");
    for (const name of ["trusted.a", "user.bb", "user.c", "security.x", "user.ba"]) {
      await set(open, file, name, ascii("1"));
    }
    const entries = await open.core.metadata.run(() => blockEntries(open.core, file));
    const found = entries.map(({ index, name }) => `${index} ${new TextDecoder().decode(name)}`);
    expect(found).toEqual(["1 c", "1 ba", "1 bb", "4 a", "6 x"]);
    await judge(open, "sorted");
  });

  test("gives values and blocks back with the inode", async () => {
    const open = await openWriter(
      image("freed", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,ea_inode"]),
    );
    const free = (): readonly number[] => {
      const { freeBlockCount, freeInodeCount } = open.writer.groups.totals;
      return [freeBlockCount, freeInodeCount];
    };
    await make(open, "other");
    await open.commit();
    const before = free();
    const file = await make(open, "f");
    await set(open, file, "user.huge", new Random(1).bytes(40 * KIB));
    await set(open, file, "user.large", new Random(2).bytes(700));
    expect(file.sectorCount).toBe(80 + 2);
    expect(free()[1]).toBe(before[1]! - 2);
    await open.run((handle) => {
      extUnlink(open.writer, handle, open.core.inode(EXT_ROOT_INO), ascii("f"));
    });
    await evictInode(open.writer, file);
    await open.commit();
    expect(free()).toEqual(before);
    await judge(open, "freed");
  });

  test("writes what debugfs reads", async () => {
    const open = await openWriter(image("debugfs", ORDINARY));
    const file = await make(open, "f");
    await set(open, file, "user.a", ascii("small"));
    await set(open, file, "user.b", ascii("b".repeat(300)));
    const path = await judge(open, "debugfs");
    const said = runTool("debugfs", ["-R", "ea_list f", path]);
    expect(said).toContain('user.a (5) = "small"');
    expect(said).toContain("user.b (300)");
  });
});
