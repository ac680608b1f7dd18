/**
 * What mounting does about images that are not simply whole: refused, opened with a warning, or
 * saved.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { mmpChecksum, superblockChecksum } from "../../src/fs/ext/checksum.ts";
import { probeExt } from "../../src/fs/ext/ext-fs.ts";
import { MMP, SB } from "../../src/fs/ext/layout.ts";
import { le32, putLe32 } from "../../src/lib/bytes.ts";
import { realClock } from "../../src/lib/clock.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { makeImage, makeSourceTree, openImage, readTree } from "../support/ext-images.ts";
import { hostTree } from "../support/host-tree.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasMke2fs = requireTool("mke2fs");
const hasDebugfs = requireTool("debugfs");
const scratch = scratchDirectory("ext-mount");

/** The superblock at byte 1024, as a view. */
function superblockOf(image: Uint8Array): Uint8Array {
  return image.subarray(KIB, 2 * KIB);
}

function putChecksum(superblock: Uint8Array): void {
  putLe32(superblock, SB.s_checksum, superblockChecksum(superblock));
}

function storeOf(image: Uint8Array): MemoryStore {
  return new MemoryStore(image, { canWrite: false });
}

describe.skipIf(!hasMke2fs)("features", () => {
  let image: Uint8Array;
  beforeAll(() => {
    image = readFileSync(
      makeImage(scratch, "features", ["-t", "ext4", "-b", "1024"], { sizeText: "8M" }),
    );
  });

  function withBit(field: number, bit: number): MemoryStore {
    const copy = new Uint8Array(image);
    const superblock = superblockOf(copy);
    putLe32(superblock, field, (le32(superblock, field) | bit) >>> 0);
    putChecksum(superblock);
    return storeOf(copy);
  }

  test.each([
    [0x1, "compression"],
    [0x1000, "dirdata"],
    [0x20, "FEATURE_I5"],
    [0x8000_0000, "FEATURE_I31"],
  ])("incompat bit %i is refused by the name %s", async (bit, name) => {
    const opening = openImage(withBit(SB.s_feature_incompat, bit));
    await expect(opening).rejects.toMatchObject({ code: "EOPNOTSUPP" });
    await expect(openImage(withBit(SB.s_feature_incompat, bit))).rejects.toThrow(name);
  });

  test("the external journal of another file system is refused as such", async () => {
    const opening = openImage(withBit(SB.s_feature_incompat, 0x8));
    await expect(opening).rejects.toThrow(/EOPNOTSUPP.*external journal/);
  });

  test("an unknown ro_compat bit is told, and the image read", async () => {
    await using mounted = await openImage(withBit(SB.s_feature_ro_compat, 0x40_0000));
    expect(mounted.fs.warnings.join()).toContain("FEATURE_R22");
    expect(mounted.fs.describe()).toMatchObject({ isWriteForbidden: true });
  });

  test("an unknown compat bit is no matter", async () => {
    await using mounted = await openImage(withBit(SB.s_feature_compat, 0x40_0000));
    expect(mounted.fs.warnings).toEqual([]);
    expect(mounted.fs.describe()["features"]).toContain("FEATURE_C22");
  });

  test("probing looks at the magic number", async () => {
    const deviceOf = (bytes: Uint8Array) =>
      new StoreBlockDevice(storeOf(bytes), { clock: realClock });
    expect(await probeExt(deviceOf(image))).toBe(true);
    expect(await probeExt(deviceOf(new Uint8Array(MIB)))).toBe(false);
    expect(await probeExt(deviceOf(new Uint8Array(1500)))).toBe(false);
  });
});

describe.skipIf(!hasMke2fs)("a damaged primary superblock", () => {
  let source = "";
  beforeAll(() => {
    source = makeSourceTree(join(scratch, "source"));
  });

  test.each([
    ["1k", "-t ext4 -b 1024", "32M", 8193],
    ["4k", "-t ext4 -b 4096", "300M", 32768],
    ["2k-ext2", "-t ext2 -b 2048", "64M", 16384],
    ["sparse-super2", "-t ext4 -b 1024 -O sparse_super2", "32M", 8193],
    ["meta-bg", "-t ext4 -b 1024 -O meta_bg,^resize_inode", "64M", 8193],
    ["bigalloc", "-t ext4 -b 1024 -O bigalloc", "300M", 131072],
  ])(
    "of %s is replaced by its copy when the user asks for it",
    async (name, args, sizeText, block) => {
      const path = makeImage(scratch, `backup-${name}`, args.split(" "), {
        sizeText,
        sourceDir: source,
      });
      const image = readFileSync(path);
      superblockOf(image).fill(0);
      const store = storeOf(image);
      await expect(openImage(store)).rejects.toMatchObject({ code: "EINVAL" });
      for (const superblock of ["backup", block] as const) {
        await using mounted = await openImage(store, { superblock });
        expect(mounted.fs.warnings[0]).toContain(`block ${block}`);
        if (name !== "2k-ext2") {
          expect(mounted.fs.describe()).toMatchObject({ journal: { isDirty: false } });
        }
        await using home = await openImage(store, { superblock, noload: true });
        expect(home.fs.warnings).toEqual(mounted.fs.warnings);
        expect(await readTree(mounted.fs)).toEqual(hostTree(source));
      }
      await expect(openImage(store, { superblock: block + 1 })).rejects.toMatchObject({
        code: "EINVAL",
      });
    },
  );

  test("a wrong checksum is EBADMSG, and read past with salvage", async () => {
    const image = readFileSync(
      makeImage(scratch, "salvage", ["-t", "ext4"], { sourceDir: source }),
    );
    superblockOf(image)[0x3e0] = 1;
    await expect(openImage(storeOf(image))).rejects.toMatchObject({ code: "EBADMSG" });
    await using mounted = await openImage(storeOf(image), { salvage: true });
    expect(mounted.fs.warnings.join()).toContain("s_checksum");
    expect(await readTree(mounted.fs)).toEqual(hostTree(source));
  });

  test("an image that was cut off is EUCLEAN; with salvage what is left is read", async () => {
    const whole = readFileSync(makeImage(scratch, "cut", ["-t", "ext4"], { sourceDir: source }));
    const image = whole.subarray(0, 30 * MIB);
    await expect(openImage(storeOf(image))).rejects.toMatchObject({ code: "EUCLEAN" });
    await using mounted = await openImage(storeOf(image), { salvage: true });
    expect(await readTree(mounted.fs)).toEqual(hostTree(source));
  });
});

describe.skipIf(!hasMke2fs)("multi-mount protection", () => {
  test.each([
    [0xff4d_4d50, "clean", undefined],
    [0xe24d_4d50, "fsck", "a check of this file system"],
    [0x0000_1234, "in use", '"elsewhere"'],
  ])("sequence %i: %s", async (sequence, state, warning) => {
    const path = makeImage(scratch, `mmp-${sequence}`, ["-t", "ext4", "-O", "mmp"]);
    const image = readFileSync(path);
    const superblock = superblockOf(image);
    const at = le32(superblock, SB.s_mmp_block) * KIB * 2 ** le32(superblock, SB.s_log_block_size);
    const block = image.subarray(at, at + KIB);
    putLe32(block, MMP.mmp_seq, sequence);
    block.set(new TextEncoder().encode("elsewhere\0"), MMP.mmp_nodename);
    await using made = await openImage(path);
    putLe32(block, MMP.mmp_checksum, mmpChecksum(made.fs.core.seed, block));
    await using mounted = await openImage(storeOf(image));
    expect(mounted.fs.describe()).toMatchObject({ multiMountProtection: { state } });
    expect(mounted.fs.warnings.length).toBe(warning === undefined ? 0 : 1);
    if (warning !== undefined) expect(mounted.fs.warnings[0]).toContain(warning);
  });

  test("a damaged block is a warning, since a reader changes nothing", async () => {
    const image = readFileSync(makeImage(scratch, "mmp-bad", ["-t", "ext4", "-O", "mmp"]));
    const superblock = superblockOf(image);
    const at = le32(superblock, SB.s_mmp_block) * KIB * 2 ** le32(superblock, SB.s_log_block_size);
    image[at + 0x100] = 1;
    await using mounted = await openImage(storeOf(image));
    expect(mounted.fs.warnings.join()).toContain("mmp_checksum");
  });
});

describe.skipIf(!hasMke2fs)("an external journal", () => {
  test("has to be given, or said to be left alone", async () => {
    const journal = join(scratch, "journal.img");
    runTool("mke2fs", ["-F", "-q", "-O", "journal_dev", "-b", "4096", journal, "8M"]);
    const path = makeImage(scratch, "with-external", [
      "-t",
      "ext4",
      "-b",
      "4096",
      "-O",
      "^has_journal",
    ]);
    const uuid = readFileSync(journal).subarray(KIB + SB.s_uuid, KIB + SB.s_uuid + 16);
    const image = readFileSync(path);
    const superblock = superblockOf(image);
    superblock.set(uuid, SB.s_journal_uuid);
    putLe32(superblock, SB.s_feature_compat, le32(superblock, SB.s_feature_compat) | 0x4);
    putLe32(superblock, SB.s_journal_inum, 0);
    putLe32(superblock, SB.s_journal_dev, 0x700);
    putChecksum(superblock);
    const store = storeOf(image);
    await expect(openImage(store)).rejects.toThrow(/journal is on another device/);
    await using ignored = await openImage(store, { noload: true });
    expect(ignored.fs.typeName).toBe("ext4");
    const given = new StoreBlockDevice(storeOf(readFileSync(journal)), { clock: realClock });
    await using mounted = await openImage(store, { journalDevice: given });
    expect(mounted.fs.describe()).toMatchObject({ journal: { kind: "external" } });
  });

  test("is refused as such where a file system is expected", async () => {
    const journal = join(scratch, "journal-alone.img");
    runTool("mke2fs", ["-F", "-q", "-O", "journal_dev", "-b", "4096", journal, "8M"]);
    await expect(openImage(journal)).rejects.toThrow(/EOPNOTSUPP.*external journal/);
  });
});

test.skipIf(!hasMke2fs)(
  "describe is data for JSON, with counts, features and journal",
  async () => {
    const path = makeImage(scratch, "described", ["-t", "ext4", "-L", "label", "-O", "quota,mmp"]);
    await using mounted = await openImage(path);
    const description = JSON.parse(JSON.stringify(mounted.fs.describe()));
    expect(description).toMatchObject({
      type: "ext4",
      label: "label",
      uuid: "01234567-89ab-cdef-0123-456789abcdef",
      state: "clean",
      creatorOs: "Linux",
      layout: { blockBytes: 1024, sizeBytes: 32 * MIB, groupCount: 4 },
      times: { created: "2023-11-14T22:13:20.000Z", lastMounted: null },
      directoryHash: "half_md4, signed bytes",
      journal: { kind: "internal", inode: 8, isDirty: false },
      quotaInodes: { user: 3, group: 4 },
      multiMountProtection: { state: "clean" },
    });
    expect(description.features).toContain("metadata_csum");
    expect(description.usage.freeInodes).toBe(mounted.fs.usage().freeInodeCount);
  },
);

describe.skipIf(!hasMke2fs || !hasDebugfs)("describe", () => {
  function withSettings(name: string, commands: readonly string[]): string {
    const path = makeImage(scratch, name, ["-t", "ext4"]);
    for (const command of commands) runTool("debugfs", ["-w", "-R", command, path]);
    return path;
  }

  test("tells the recorded errors, the defaults and what a check would do", async () => {
    const path = withSettings("record", [
      "ssv error_count 3",
      "ssv first_error_time 20231115101010",
      "ssv first_error_ino 17",
      "ssv first_error_block 70",
      "ssv first_error_func ext4_lookup",
      "ssv first_error_line 1700",
      "ssv last_error_line 9",
      "ssv last_error_block 4294967299",
      "ssv default_mount_opts 0xc4c",
      "ssv mount_opts data_err=abort",
      "ssv state 0x23",
      "ssv max_mnt_count 20",
      "ssv checkinterval 3600",
      "ssv def_resuid 7",
      "ssv flags 5",
    ]);
    const image = readFileSync(path);
    const superblock = superblockOf(image);
    superblock[SB.s_first_error_errcode] = 5;
    superblock[SB.s_last_error_errcode] = 200;
    putChecksum(superblock);
    await using mounted = await openImage(storeOf(image));
    expect(mounted.fs.describe()).toMatchObject({
      state: "clean, with errors, fast commits being replayed",
      errors: {
        count: 3,
        first: {
          time: "2023-11-15T10:10:10.000Z",
          error: "structure damaged",
          function: "ext4_lookup",
          line: 1700,
          inode: 17,
          block: 70,
        },
        last: { error: "unknown (200)", line: 9, block: 4294967299 },
      },
      defaultMountOptions: [
        "user_xattr",
        "acl",
        "discard",
        "nodelalloc",
        "journal_data_ordered",
        "data_err=abort",
      ],
      directoryHashSeed: "a0a1a2a3-b0b1-c2c3-d0d1-e0e1e2e3e4e5",
      layout: { extraInodeBytes: { least: 32, wanted: 32 } },
      usage: {
        reservedForUid: 7,
        reservedForGid: 0,
        overheadBlocks: le32(superblock, SB.s_overhead_clusters),
      },
      times: { checkAfterMounts: 20, checkIntervalSec: 3600 },
      isTest: true,
    });
  });

  test("counts the orphans of the list", async () => {
    const path = withSettings("orphans", [
      "write /etc/passwd a",
      "write /etc/passwd b",
      "sif <12> dtime @13",
      "ssv last_orphan 12",
    ]);
    await using mounted = await openImage(path);
    expect(mounted.fs.describe()).toMatchObject({ firstOrphanInode: 12, orphans: 2 });
    expect(mounted.fs.warnings).toEqual([]);
  });

  test("says that a list of orphans that runs in a circle is none", async () => {
    const path = withSettings("circle", [
      "write /etc/passwd a",
      "sif <12> dtime @12",
      "ssv last_orphan 12",
    ]);
    await using mounted = await openImage(path);
    expect(mounted.fs.describe()).toMatchObject({ orphans: "unknown" });
    expect(mounted.fs.warnings.join()).toMatch(/EUCLEAN.*orphan list has inode 12 twice/);
  });

  test.each([
    ["ssv rev_level 2", true],
    ["feature read-only", true],
    ["feature shared_blocks", false],
  ])("after %s, that Linux may not write to it: %s", async (command, isForbidden) => {
    const path = withSettings("forbidden", [command]);
    await using mounted = await openImage(path);
    expect(mounted.fs.describe()).toMatchObject({ isWriteForbidden: isForbidden });
  });
});
