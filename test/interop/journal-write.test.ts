/**
 * Logs that we wrote, recovered by the kernel, by e2fsck and by ourselves: images are left as after
 * a power cut, with committed transactions in the log alone, and one that was not committed.
 */
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type BlockDevice, readDevice, StoreBlockDevice } from "../../src/block/block-device.ts";
import { writeDevice } from "../../src/block/write-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { superblockChecksum } from "../../src/fs/ext/checksum.ts";
import { ExtCore } from "../../src/fs/ext/core.ts";
import { SB } from "../../src/fs/ext/layout.ts";
import { openTransactions } from "../../src/fs/ext/open-transactions.ts";
import { recoverJournal } from "../../src/fs/ext/recover.ts";
import { Superblock } from "../../src/fs/ext/superblock.ts";
import type { ExtTransactions } from "../../src/fs/ext/transactions.ts";
import { le32, putLe32 } from "../../src/lib/bytes.ts";
import { VirtualClock } from "../../src/lib/clock.ts";
import { MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { kernelManifest, makeDirtyImage, recoverCopy } from "../support/dirty-image.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

/** Directories come and go, files grow and shrink, freed blocks are used again. */
const WORK = `
import os
def write(path, count):
    with open(path, "wb") as f: f.write(bytes([len(path)]) * count)
os.mkdir("a")
for i in range(60): write(f"a/f{i}", i * 300)
os.sync()
os.mkdir("gone")
for i in range(150): write(f"gone/{'n' * 40}{i}", 10)
os.sync()
for i in range(150): os.unlink(f"gone/{'n' * 40}{i}")
os.rmdir("gone")
os.sync()
for i in range(40): write(f"a/reuse{i}", 5000)
os.rename("a/f1", "renamed"); os.link("a/f2", "linked")
os.sync()
write("never-synced", 10)
`;

const hasTools = ["mke2fs", "debugfs", "e2fsck", "mount", "losetup", "python3"]
  .map(requireTool)
  .every(Boolean);
const canMount = hasTools && requireRoot("mounting an image");
const directory = scratchDirectory("journal-write");

interface Writable {
  readonly core: ExtCore;
  readonly device: BlockDevice;
  readonly transactions: ExtTransactions;
}

async function readSb(device: BlockDevice): Promise<Superblock> {
  return new Superblock(await readDevice(device, 1024, 1024));
}

function sealSb(raw: Uint8Array): void {
  if (new Superblock(raw.slice()).hasMetadataCsum) {
    putLe32(raw, SB.s_checksum, superblockChecksum(raw));
  }
}

/** Opens the image in `bytes` for writing: recovered, with RECOVER set. */
async function openWritable(bytes: Uint8Array, external?: Uint8Array): Promise<Writable> {
  const clock = new VirtualClock();
  clock.spend(1_700_000_000_000);
  const device = new StoreBlockDevice(new MemoryStore(bytes), { clock });
  const journalDevice = external && new StoreBlockDevice(new MemoryStore(external), { clock });
  const cache = new PageCache({ arenaBytes: 4 * MIB, clock });
  const coreOf = async (): Promise<ExtCore> => {
    const sb = await readSb(device);
    return new ExtCore(sb, sb.blockBytes === 1024 ? 1 : 0, device, cache, () => undefined, false);
  };
  const first = await coreOf();
  const { file } = await recoverJournal(first, device, { clock, journalDevice });
  await first.close();
  const raw = (await readSb(device)).raw.slice();
  putLe32(raw, SB.s_feature_incompat, le32(raw, SB.s_feature_incompat) | 4);
  sealSb(raw);
  await writeDevice(device, 1024, raw);
  const core = await coreOf();
  return { core, device, transactions: openTransactions(core, file, clock) };
}

/** Sets the label in the superblock, as one operation. */
async function label({ core, transactions }: Writable, text: string): Promise<void> {
  const block = core.sb.blockBytes === 1024 ? 1 : 0;
  const offset = block === 1 ? 0 : 1024;
  const seal = (data: Uint8Array): void => sealSb(data.subarray(offset, offset + 1024));
  await transactions.run((handle) => {
    const data = handle.write(block, seal);
    data.fill(0, offset + SB.s_volume_name, offset + SB.s_volume_name + 16);
    data.set(new TextEncoder().encode(text), offset + SB.s_volume_name);
  });
}

function labelIn(image: string): string {
  return runTool("debugfs", ["-R", "show_super_stats -h", image]).match(/volume name: +(.*)/)![1]!;
}

const forms: readonly (readonly [string, readonly string[]])[] = [
  ["ext4", ["-t", "ext4", "-b", "4096"]],
  ["ext4 with 1 KiB blocks", ["-t", "ext4", "-b", "1024"]],
  ["ext3", ["-t", "ext3"]],
  ["ext4 without 64bit", ["-t", "ext4", "-O", "^64bit"]],
  ["ext4 without metadata_csum", ["-t", "ext4", "-O", "^metadata_csum"]],
  ["ext4 with fast_commit", ["-t", "ext4", "-O", "fast_commit", "-J", "size=8"]],
];

/** An image as after a power cut: `count` labels committed, one more not. */
async function cutImage(name: string, args: readonly string[], count: number): Promise<string> {
  const path = join(directory, `${name}.img`);
  runTool("mke2fs", ["-q", "-F", ...args, path, "32M"]);
  const bytes = new Uint8Array(readFileSync(path));
  const writable = await openWritable(bytes);
  for (let at = 1; at <= count; at++) {
    await label(writable, `label ${at}`);
    await writable.transactions.commit();
  }
  await label(writable, "never");
  writeFileSync(path, bytes);
  return path;
}

describe.runIf(hasTools)("logs that we wrote", () => {
  test.each(forms)("J108 e2fsck recovers them and finds nothing wrong: %s", async (name, args) => {
    const image = await cutImage(`fsck-${name.replaceAll(" ", "-")}`, args, 7);
    expect(labelIn(image)).not.toBe("label 7");
    runTool("e2fsck", ["-p", image]);
    expect(labelIn(image)).toBe("label 7");
    runTool("e2fsck", ["-fn", image]);
  });

  test.runIf(canMount).each(forms)("J108 the kernel recovers them: %s", async (name, args) => {
    const image = await cutImage(`kernel-${name.replaceAll(" ", "-")}`, args, 7);
    const recovered = recoverCopy(directory, image);
    expect(labelIn(recovered)).toBe("label 7");
    runTool("e2fsck", ["-fn", recovered]);
  });

  test.each(forms)("J108 so do we, and go on: %s", async (name, args) => {
    const image = await cutImage(`own-${name.replaceAll(" ", "-")}`, args, 5);
    const bytes = new Uint8Array(readFileSync(image));
    const writable = await openWritable(bytes);
    expect(new TextDecoder().decode(writable.core.sb.raw.subarray(0x78, 0x7f))).toBe("label 5");
    for (let at = 6; at < 9; at++) {
      await label(writable, `label ${at}`);
      await writable.transactions.commit();
    }
    writeFileSync(image, bytes);
    runTool("e2fsck", ["-p", image]);
    expect(labelIn(image)).toBe("label 8");
    runTool("e2fsck", ["-fn", image]);
  });

  test("J96 after close the log is empty for e2fsck and the kernel", async () => {
    const path = join(directory, "closed.img");
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", path, "32M"]);
    const bytes = new Uint8Array(readFileSync(path));
    const writable = await openWritable(bytes);
    await label(writable, "closed");
    await writable.transactions.close();
    const raw = bytes.slice(1024, 2048);
    expect(new TextDecoder().decode(raw.subarray(0x78, 0x7e))).toBe("closed");
    writeFileSync(path, bytes);
    const logdump = runTool("debugfs", ["-R", "logdump -S", path]);
    expect(logdump).toMatch(/Journal start: +0/);
    expect(logdump).toMatch(/journal_64bit journal_checksum_v3/);
  });

  test("a log of many rounds is recovered by e2fsck", async () => {
    const image = await cutImage("rounds", ["-t", "ext4", "-b", "1024", "-J", "size=1"], 800);
    const copy = `${image}.copy`;
    copyFileSync(image, copy);
    runTool("e2fsck", ["-p", image]);
    expect(labelIn(image)).toBe("label 800");
    runTool("e2fsck", ["-fn", image]);
  });

  const kernelForms: readonly (readonly [string, string])[] = [
    ["ext4", "-t ext4 -b 4096"],
    ["ext3", "-t ext3 -b 1024"],
  ];
  test.runIf(canMount).each(kernelForms)(
    "J108 a log that the kernel wrote is recovered by us to the same tree: %s",
    async (name, args) => {
      const options = { directory, name: `by-${name}`, sizeText: "32M", work: WORK };
      const dirty = makeDirtyImage({ ...options, args: args.split(" ") });
      const wanted = kernelManifest(directory, recoverCopy(directory, dirty));
      const bytes = new Uint8Array(readFileSync(dirty));
      const writable = await openWritable(bytes);
      await writable.transactions.close();
      const raw = bytes.subarray(1024, 2048); // Closing a file system does this, behind us.
      putLe32(raw, SB.s_feature_incompat, le32(raw, SB.s_feature_incompat) & ~4);
      sealSb(raw);
      const own = join(directory, `own-${name}.img`);
      writeFileSync(own, bytes);
      expect(kernelManifest(directory, own)).toEqual(wanted);
      runTool("e2fsck", ["-fn", own]);
    },
  );

  test("J25 a log on a device of its own is recovered by e2fsck", async () => {
    const journalPath = join(directory, "external.jnl");
    const path = join(directory, "external.img");
    runTool("mke2fs", ["-q", "-F", "-b", "4096", "-O", "journal_dev", journalPath, "8M"]);
    runTool("mke2fs", ["-q", "-F", "-b", "4096", "-O", "^has_journal", path, "32M"]);
    const external = new Uint8Array(readFileSync(journalPath));
    const bytes = new Uint8Array(readFileSync(path));
    const raw = bytes.subarray(1024, 2048);
    putLe32(raw, SB.s_feature_compat, le32(raw, SB.s_feature_compat) | 4);
    raw.set(external.subarray(1024 + SB.s_uuid, 1024 + SB.s_uuid + 16), SB.s_journal_uuid);
    sealSb(raw);
    const writable = await openWritable(bytes, external);
    await label(writable, "label 1");
    await writable.transactions.commit();
    writeFileSync(path, bytes);
    writeFileSync(journalPath, external);
    const again = await openWritable(bytes, external);
    expect(new TextDecoder().decode(again.core.sb.raw.subarray(0x78, 0x7f))).toBe("label 1");
    runTool("e2fsck", ["-p", "-j", journalPath, path]);
    expect(labelIn(path)).toBe("label 1");
  });
});
