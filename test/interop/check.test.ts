/**
 * `checkExt` against `e2fsck -fn`: clean images are clean to both, and what is damaged to one is so
 * to the other, whatever was damaged. The exceptions are told where they are listed.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { type CheckOptions, type CheckReport, checkExt } from "../../src/fs/ext/check/index.ts";
import { realClock, VirtualClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { makeImage, makeSourceTree } from "../support/ext-images.ts";
import { findTool, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "e2fsck", "debugfs"].every((tool) => requireTool(tool));
const scratch = scratchDirectory("check");
const FLIPS = 25;
const SEED = 20_231_114;

const IMAGES: readonly (readonly [name: string, args: string])[] = [
  ["ext2", "-t ext2 -b 1024"],
  ["ext3", "-t ext3 -b 1024"],
  ["ext4", "-t ext4 -b 1024"],
  ["ext4-4k", "-t ext4 -b 4096"],
  ["ext4-rich", "-t ext4 -b 1024 -O inline_data,ea_inode,orphan_file,metadata_csum_seed"],
  ["ext4-bigalloc", "-t ext4 -b 1024 -O bigalloc"],
  ["ext4-crc16", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,^flex_bg"],
  ["ext4-meta-bg", "-t ext4 -b 1024 -O meta_bg,^resize_inode"],
  ["ext4-128", "-t ext4 -b 1024 -I 128"],
];

async function check(bytes: Uint8Array, options: Partial<CheckOptions> = {}): Promise<CheckReport> {
  const device = new StoreBlockDevice(new MemoryStore(bytes), { clock: realClock });
  const cache = new PageCache({ clock: realClock, arenaBytes: 16 * MIB });
  return checkExt(device, cache, { clock: realClock, ...options });
}

/** True if e2fsck finds nothing to correct. */
function isCleanToE2fsck(image: string): boolean {
  const { status } = spawnSync(findTool("e2fsck")!, ["-fn", image], { input: "" });
  return status === 0;
}

const damagesOf = (report: CheckReport): string[] =>
  report.findings.filter(({ severity }) => severity === "damage").map(({ text }) => text);

const imageOf = (name: string): string => join(scratch, `${name}.img`);

beforeAll(() => {
  if (!hasTools) return;
  const sourceDir = makeSourceTree(join(scratch, "source"));
  for (const [name, args] of IMAGES) {
    makeImage(scratch, name, args.split(" "), { sourceDir, sizeText: "24M" });
    // The index of directories that mke2fs does not make, and attributes in a block.
    spawnSync(findTool("e2fsck")!, ["-fyD", imageOf(name)], { input: "" });
    for (const file of ["large", "empty"]) {
      const set = `ea_set ${file} user.long ${"v".repeat(300)}`;
      runTool("debugfs", ["-w", "-R", set, imageOf(name)]);
    }
  }
}, 120_000);

describe.skipIf(!hasTools)("clean images", () => {
  test.each(IMAGES)("%s", async (name) => {
    const report = await check(readFileSync(imageOf(name)));
    expect(damagesOf(report)).toEqual([]);
    expect(isCleanToE2fsck(imageOf(name))).toBe(true);
    expect(report.isComplete).toBe(true);
    expect(report.directories).toBeGreaterThan(5);
    expect(report.usedInodes).toBeGreaterThan(300);
  });
});

/** Requests of debugfs, several with ";" between them. */
const DAMAGES: readonly string[] = [
  "clri large",
  "clri a/b",
  "clri <2>",
  "clri <11>",
  "clri <8>",
  "sif empty links_count 7",
  "sif empty mode 0",
  "sif empty mode 0120644",
  "sif a links_count 9",
  "sif large size 100",
  "sif large blocks 4",
  "sif large block[2] 7777777",
  "sif large flags 0",
  "sif a/b flags 0x1000",
  "sif many flags 0",
  "sif large dtime 1000000",
  "sif empty file_acl 999999",
  "sif empty file_acl 4000",
  "sif short-link size 3",
  "sif long-link size 7",
  "sif empty extra_isize 5",
  "sif a size 3000",
  "sif a size 9216",
  "sif large file_acl 0",
  "sif <5> links_count 3",
  "sif <9> mode 040755",
  "sif empty faddr 3",
  "sif a size_high 3",
  "sif empty blocks_hi 2",
  "sif empty flags 0x10000000",
  "sif a/b generation 5",
  "sif large generation 7",
  "sif empty checksum 0",
  "freeb 2000",
  "freeb 3000 20",
  "setb 9000",
  "setb 5000 30",
  "freei <14>",
  "seti <900>",
  "unlink large",
  "unlink a",
  "rm bytes-60",
  "kill_file large",
  "ln empty a/again",
  "ln <1500> a/nothing",
  "ln a/b a/dirlink",
  "mkdir new",
  "rmdir empty-directory",
  "ssv free_blocks_count 17",
  "ssv state 0",
  "ssv state 2",
  "ssv inodes_count 17",
  "ssv blocks_count 999999999",
  "ssv blocks_count 8000",
  "ssv journal_inum 9",
  "ssv first_ino 5",
  "ssv hash_seed 11111111-1111-1111-1111-111111111111",
  "ssv uuid 11111111-1111-1111-1111-111111111111",
  "ssv rev_level 0",
  "ssv feature_ro_compat 0",
  "ssv feature_incompat 2",
  "ssv feature_compat 0x8000003c",
  "ssv wtime 0",
  "set_bg 0 block_bitmap 3",
  "set_bg 0 inode_table 5",
  "set_bg 0 inode_table 999999",
  "set_bg 1 free_blocks_count 3; set_bg 1 checksum calc",
  "set_bg 0 free_inodes_count 3; set_bg 0 checksum calc",
  "set_bg 0 used_dirs_count 9; set_bg 0 checksum calc",
  "zap_block -f a/b 0",
  "zap_block -f many 0",
  "zap_block -f many 3",
  "zap_block -f many -p 65 3",
  "zap_block -f large 0",
  "zap_block -f long-link 0",
  "zap_block -f / 0",
  "zap_block -f <8> 0",
  "zap_block -o 0 -l 4 -p 255 -f many 2",
  "zap_block -o 6 -l 1 -p 0 -f many 2",
  "zap_block -o 7 -l 1 -p 2 -f many 2",
  "zap_block -o 8 -l 1 -p 47 -f many 2",
];

describe.skipIf(!hasTools)("damage by debugfs is seen as e2fsck sees it", () => {
  test.each(DAMAGES)(
    "%s",
    async (requests) => {
      for (const name of ["ext3", "ext4-4k", "ext4-rich"]) {
        const image = join(scratch, "damaged.img");
        copyFileSync(imageOf(name), image);
        for (const request of requests.split("; ")) {
          spawnSync(findTool("debugfs")!, ["-w", "-R", request, image], { input: "" });
        }
        const report = await check(readFileSync(image));
        const verdict = [name, report.isClean, ...damagesOf(report).slice(0, 3)];
        expect(verdict[1], verdict.join("; ")).toBe(isCleanToE2fsck(image));
      }
    },
    60_000,
  );

  test("but for a wrong checksum of a descriptor, which e2fsck ignores and Linux refuses", async () => {
    const image = join(scratch, "damaged.img");
    copyFileSync(imageOf("ext4"), image);
    runTool("debugfs", ["-w", "-R", "set_bg 0 checksum 7", image]);
    const report = await check(readFileSync(image));
    expect(report.findings.map(({ code }) => code)).toEqual(["group.checksum"]);
    expect(isCleanToE2fsck(image)).toBe(true);
  });

  test("but for a list of orphans that leads nowhere, which e2fsck -n does not read", async () => {
    const image = join(scratch, "damaged.img");
    copyFileSync(imageOf("ext4"), image);
    runTool("debugfs", ["-w", "-R", "ssv last_orphan 99999", image]);
    const report = await check(readFileSync(image));
    expect(report.findings.map(({ code }) => code)).toEqual(["orphan.list"]);
    expect(isCleanToE2fsck(image)).toBe(true);
  });
});

/** Blocks of 1 KiB that hold something, but are not full, as file content is. */
function structureOf(bytes: Uint8Array): number[] {
  const blocks: number[] = [];
  for (let at = KIB; at < bytes.length; at += KIB) {
    const set = bytes.subarray(at, at + KIB).reduce((count, byte) => count + (byte ? 1 : 0), 0);
    if (set > 8 && set < 900) blocks.push(at);
  }
  return blocks;
}

describe.skipIf(!hasTools)(`flipped bits are seen as e2fsck sees them, seed ${SEED}`, () => {
  test.each(IMAGES)(
    "%s",
    async (name) => {
      const random = new Random(SEED);
      const bytes = readFileSync(imageOf(name));
      const blocks = structureOf(bytes);
      const image = join(scratch, "flipped.img");
      for (let flip = 0; flip < FLIPS; flip++) {
        const block = random.pick(blocks);
        const at = block + random.below(KIB);
        const mask = 1 << random.below(8);
        bytes[at]! ^= mask;
        writeFileSync(image, bytes);
        const report = await check(bytes);
        const codes = new Set(report.findings.map(({ code }) => code));
        const isException = codes.has("group.checksum") || codes.has("orphan.list");
        const about = `bit ${mask} at ${at}: ${damagesOf(report).slice(0, 3).join("; ")}`;
        if (!isException) expect(report.isClean, about).toBe(isCleanToE2fsck(image));
        bytes[at]! ^= mask;
      }
    },
    120_000,
  );
});

describe.skipIf(!hasTools)("a check", () => {
  test("ends with the reason of its signal", async () => {
    const abort = new AbortController();
    abort.abort(new Error("enough"));
    const bytes = readFileSync(imageOf("ext4"));
    await expect(check(bytes, { signal: abort.signal })).rejects.toThrow("enough");
  });

  test("gives the event loop its turn, and tells how far it is", async () => {
    const clock = new VirtualClock();
    const parts = new Set<string>();
    const bytes = readFileSync(imageOf("ext4"));
    await check(bytes, { clock, onProgress: (part) => parts.add(part) });
    expect(clock.turnCount).toBeGreaterThan(1);
    expect([...parts]).toEqual(["groups", "inodes", "directories", "bitmaps"]);
  });

  test("keeps as many findings as it was told to, and counts the others", async () => {
    const bytes = readFileSync(imageOf("ext2"));
    bytes.fill(0, 20 * KIB, 900 * KIB);
    const report = await check(bytes, { findingsMax: 3 });
    expect(report.findings.length).toBe(3);
    expect(report.damageCount).toBeGreaterThan(3);
  });

  test("changes nothing", async () => {
    const bytes = readFileSync(imageOf("ext4"));
    const before = Uint8Array.from(bytes);
    await check(bytes);
    expect(bytes.equals(before)).toBe(true);
  });
});

describe("what is no file system", () => {
  test.each([
    ["zeros", new Uint8Array(MIB)],
    ["rubbish", new Random(SEED).bytes(MIB)],
  ])("%s", async (_, bytes) => {
    const report = await check(bytes);
    expect(report).toMatchObject({ isClean: false, isComplete: false, damageCount: 1 });
    expect(report.findings[0]!.text).toMatch(/no ext2\/3\/4 superblock here/);
  });
});
