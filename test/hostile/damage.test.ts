/**
 * Coarse damage: images cut off, metadata blocks zeroed or all ones, garbage, tables in circles.
 */
import { afterAll, describe, expect, test } from "vitest";
import { ExtCore } from "../../src/fs/ext/core.ts";
import { INODE, SB } from "../../src/fs/ext/layout.ts";
import { readOrphans } from "../../src/fs/ext/orphan.ts";
import { be32, putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { Random } from "../../src/lib/random.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../src/lib/units.ts";
import { makeTestCore } from "../support/ext-core.ts";
import {
  type BaseImage,
  type JournalImage,
  makeJournalImage,
  makeRich,
  makeTiny,
  RICH_FORMATS,
} from "../support/hostile-images.ts";
import { judgeBytes, type Verdict } from "../support/hostile-judge.ts";
import { ImagePatch } from "../support/hostile-patch.ts";
import { HostileWatch } from "../support/hostile-watch.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs", "e2fsck"].map(requireTool).every(Boolean);
const hasPartitioners = ["sfdisk", "sgdisk"].map(requireTool).every(Boolean);
const directory = scratchDirectory("damage");
const watch = new HostileWatch();
afterAll(() => watch.stop());

const MINUTES_MS = 300_000;
const TINY: readonly (readonly [string, readonly string[]])[] = [
  ["tiny-ext2", ["-t", "ext2"]],
  ["tiny-ext4", ["-t", "ext4", "-O", "^has_journal,metadata_csum,inline_data"]],
];

const made = new Map<string, BaseImage>();

function baseOf(name: string): BaseImage {
  const base = made.get(name) ?? makeBase(name);
  made.set(name, base);
  return base;
}

function makeBase(name: string): BaseImage {
  if (RICH_FORMATS.has(name)) return makeRich(directory, name, true);
  if (name.startsWith("journal")) return makeJournalImage(directory, name === "journal-sum");
  return makeTiny(directory, name, TINY.find(([tiny]) => tiny === name)![1]);
}

const ALL_NAMES = [...TINY.map(([name]) => name), ...RICH_FORMATS.keys(), "journal-sum"];

/** Judges `bytes` under a name, unless another was asked for. */
async function judgeAs(name: string, bytes: Uint8Array): Promise<Verdict | undefined> {
  return watch.wants(name) ? watch.run(name, () => judgeBytes(bytes)) : undefined;
}

describe.skipIf(!hasTools)("cut off", { timeout: MINUTES_MS }, () => {
  test.each(ALL_NAMES)("%s at every power of two, and a byte before and behind", async (name) => {
    const { bytes } = baseOf(name);
    for (let length = 1; length <= bytes.length; length *= 2) {
      for (const end of [length - 1, length, length + 1]) {
        if (end >= bytes.length) continue;
        const verdict = await judgeAs(`${name}/cut/${end}`, bytes.slice(0, end));
        // Less than the superblock says is never taken for whole.
        if (verdict !== undefined) expect(["EINVAL", "EUCLEAN"]).toContain(verdict.outcome);
        if (verdict !== undefined && end >= 2 * KIB) expect(verdict.outcome).toBe("EUCLEAN");
      }
    }
  });
});

describe.skipIf(!hasTools)("a block of metadata", { timeout: MINUTES_MS }, () => {
  test.each([...RICH_FORMATS.keys()])("of %s that is all zeros or all ones", async (name) => {
    const patch = await ImagePatch.of(baseOf(name));
    const kinds = new Set<string>();
    const codes = new Set<string>();
    for (const place of patch.places) {
      if (place.kind === "content") continue;
      kinds.add(place.kind);
      for (const [fill, isSealed] of [
        [0, false],
        [0xff, false],
        [0, true],
        [0xff, true],
      ] as const) {
        patch.reset();
        patch.view(place).fill(fill);
        if (isSealed) patch.seal();
        const title = `${name}/${place.kind}/${place.at}/${fill}/${isSealed}`;
        const verdict = await judgeAs(title, patch.bytes);
        for (const code of verdict?.codes ?? []) codes.add(code);
      }
    }
    if (!watch.wantsAll) return;
    expect(kinds.size).toBeGreaterThanOrEqual(7);
    expect([...codes]).toContain("EUCLEAN");
  });

  test.each(["journal-sum", "journal-nosum"])("of the log in %s", async (name) => {
    const image = baseOf(name) as JournalImage;
    const bytes = image.bytes.slice();
    const outcomes = new Set<string>();
    for (const journalBlock of image.log.blocks.keys()) {
      const at = image.blocks[journalBlock]! * KIB;
      for (const fill of [0, 0xff]) {
        bytes.set(image.bytes);
        bytes.fill(fill, at, at + KIB);
        const verdict = await judgeAs(`${name}/log/${journalBlock}/${fill}`, bytes);
        if (verdict !== undefined) outcomes.add(verdict.outcome);
      }
    }
    if (watch.wantsAll) expect([...outcomes]).toContain("EUCLEAN");
  });
});

describe("garbage", { timeout: MINUTES_MS }, () => {
  test("of any length is no file system", async () => {
    for (let seed = 0; seed < 200; seed++) {
      const random = new Random(seed);
      const bytes = random.bytes(random.below(256 * KIB));
      const verdict = await judgeAs(`garbage/${seed}`, bytes);
      if (verdict !== undefined) expect(verdict.outcome).toBe("EINVAL");
    }
  });

  test.skipIf(!hasTools)("behind a good superblock, and behind good descriptors", async () => {
    for (const [base, from] of [
      [baseOf("tiny-ext2"), 2 * KIB],
      [baseOf("tiny-ext2"), 6 * KIB],
      [baseOf("tiny-ext4"), 2 * KIB],
      [baseOf("tiny-ext4"), 6 * KIB],
    ] as const) {
      for (let seed = 0; seed < 300; seed++) {
        const bytes = base.bytes.slice();
        bytes.set(new Random(seed).bytes(bytes.length - from), from);
        await judgeAs(`${base.name}/garbage/${from}/${seed}`, bytes);
      }
    }
  });

  test.skipIf(!hasTools)("in the superblock, its magic number spared", async () => {
    const base = baseOf("tiny-ext2");
    for (let seed = 0; seed < 1000; seed++) {
      const random = new Random(seed);
      const bytes = base.bytes.slice();
      for (let changes = 1 + random.below(40); changes > 0; changes--) {
        bytes[KIB + random.below(KIB)] = random.below(256);
      }
      putLe16(bytes, KIB + SB.s_magic, 0xef53);
      await judgeAs(`superblock/garbage/${seed}`, bytes);
    }
  });
});

describe.skipIf(!hasTools)("the orphan list", () => {
  test("in a circle is EUCLEAN for whom asks for it", async () => {
    const patch = await ImagePatch.of(baseOf("ext2"));
    putLe32(patch.superblock, SB.s_last_orphan, patch.ino("small"));
    putLe32(patch.inode("small"), INODE.i_dtime, patch.ino("middle"));
    putLe32(patch.inode("middle"), INODE.i_dtime, patch.ino("small"));
    const { core, bytes } = makeTestCore(patch.sb);
    bytes.set(patch.bytes.subarray(0, bytes.length));
    Object.assign(core.sb, { lastOrphan: patch.ino("small") });
    expect(core).toBeInstanceOf(ExtCore);
    await expect(async () => core.metadata.run(() => readOrphans(core))).rejects.toMatchObject({
      code: "EUCLEAN",
    });
  });
});

/** A disk of 2 MiB with an ext2 of 64 KiB behind its first MiB. */
function makeDisk(label: string): Uint8Array {
  const path = `${directory}/${label}.disk`;
  runTool("truncate", ["-s", "2M", path]);
  const script = `label: ${label}\nstart=2048, size=128, type=${label === "gpt" ? "L" : "83"}\n`;
  runTool("sfdisk", ["-q", path], { input: script });
  const bytes = new Uint8Array(2 * MIB);
  bytes.set(runToolBytesOf(path));
  bytes.set(baseOf("tiny-ext2").bytes, MIB);
  return bytes;
}

function runToolBytesOf(path: string): Uint8Array {
  return Buffer.from(runTool("base64", ["-w0", path]), "base64");
}

describe.skipIf(!hasTools || !hasPartitioners)("partition tables", { timeout: MINUTES_MS }, () => {
  test("an extended partition whose chain leads back to itself", async () => {
    const bytes = makeDisk("dos");
    const entry = 446 + 16;
    bytes[entry + 4] = 5;
    putLe32(bytes, entry + 8, 100);
    putLe32(bytes, entry + 12, 1000);
    const ebr = bytes.subarray(100 * SECTOR_BYTES);
    ebr[510] = 0x55;
    ebr[511] = 0xaa;
    ebr[446 + 4] = 0x83;
    putLe32(ebr, 446 + 8, 1);
    putLe32(ebr, 446 + 12, 10);
    ebr[446 + 16 + 4] = 5;
    putLe32(ebr, 446 + 16 + 8, 0);
    putLe32(ebr, 446 + 16 + 12, 10);
    const verdict = await judgeAs("ebr/circle", bytes);
    expect(verdict?.outcome).toBe("opened");
    expect(verdict?.warnings.join()).toContain("leads back to itself");
  });

  test.each(["dos", "gpt"])("a %s table with random damage", async (label) => {
    const healthy = makeDisk(label);
    expect((await judgeBytes(healthy)).messages).toEqual([]);
    const end = healthy.length - 33 * SECTOR_BYTES;
    for (let seed = 0; seed < 500; seed++) {
      const random = new Random(seed);
      const bytes = healthy.slice();
      for (let changes = 1 + random.below(6); changes > 0; changes--) {
        const at = random.chance(0.8)
          ? random.below(3 * SECTOR_BYTES)
          : end + random.below(33 * 512);
        const value = random.pick([0, 1, 0xff, 0x7f, 0x80, random.below(256)]);
        bytes.fill(value, at, at + random.pick([1, 2, 4, 8]));
      }
      await judgeAs(`${label}/seed/${seed}`, bytes);
    }
  });

  test("each bit of both GPT headers", async () => {
    const bytes = makeDisk("gpt");
    for (const header of [SECTOR_BYTES, bytes.length - SECTOR_BYTES]) {
      expect(be32(bytes, header)).toBe(0x45464920);
      for (let bit = 0; bit < 8 * 92; bit++) {
        const at = header + Math.floor(bit / 8);
        bytes[at]! ^= 1 << (bit % 8);
        await judgeAs(`gpt/header/${header}/${bit}`, bytes);
        bytes[at]! ^= 1 << (bit % 8);
      }
    }
  });
});
