import { describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import { inodeWith, putOrphanBlock } from "../../../test/support/ext-names.ts";
import { bytesOfDump } from "../../../test/support/ext-vectors.ts";
import { orphanBlockChecksum } from "./checksum.ts";
import { S_IFREG, SB } from "./layout.ts";
import { type OrphanProgress, readOrphans } from "./orphan.ts";

/** An empty block of the orphan file of image K: block 2065, inode 12 of generation 0. */
const EMPTY_K = `
  ff8  04ca100b cda47928
`;
const ORPHAN_FILE_INO = 40;
const FILE = S_IFREG | 0o600;

async function orphans(test: TestCore): Promise<readonly number[]> {
  return test.core.metadata.run(() => readOrphans(test.core));
}

describe("the orphan list", () => {
  /** A volume whose list begins with the first of `links`, [inode, next]. */
  function listed(...links: readonly (readonly [number, number])[]): TestCore {
    const test = makeTestCore(superblockWith([SB.s_last_orphan, links[0]?.[0] ?? 0]));
    for (const [ino, dtime] of links) {
      test.core.inodes.add(inodeWith(test.core.sb, { ino, mode: FILE, links: 0, dtime }));
    }
    return test;
  }

  it("is followed through i_dtime to its end", async () => {
    expect(await orphans(listed())).toEqual([]);
    expect(await orphans(listed([14, 13], [13, 12], [12, 0]))).toEqual([14, 13, 12]);
  });

  it("is refused when it comes back, at once or later", async () => {
    await expect(orphans(listed([14, 14]))).rejects.toThrow(/EUCLEAN.*inode 14 twice/);
    await expect(orphans(listed([14, 13], [13, 14]))).rejects.toThrow(/EUCLEAN.*inode 14 twice/);
  });

  it("is refused when it leads to a reserved inode, or out of the volume", async () => {
    await expect(orphans(listed([14, 8]))).rejects.toThrow(/EUCLEAN.*inode 8/);
    await expect(orphans(listed([14, 1_700_000_000]))).rejects.toThrow(/EUCLEAN.*1700000000/);
  });
});

describe("the orphan file", () => {
  const withFile = superblockWith(
    [SB.s_feature_compat, 0x103c],
    [SB.s_feature_ro_compat, 0x1_046b],
    [SB.s_orphan_file_inum, ORPHAN_FILE_INO],
    [SB.s_last_orphan, 50],
  );

  /** A volume with two blocks of it, and inode 50 on the list. */
  function filed(blocks: readonly (readonly number[])[], sb = withFile): TestCore {
    const test = makeTestCore(sb);
    const iBlock = blocks.map((_, at) => 600 + at);
    const size = blocks.length * 1024;
    const file = inodeWith(sb, { ino: ORPHAN_FILE_INO, mode: FILE, size, iBlock });
    test.core.inodes.add(file);
    test.core.inodes.add(inodeWith(sb, { ino: 50, mode: FILE, links: 0 }));
    for (const [at, inos] of blocks.entries()) {
      putOrphanBlock(test.block(600 + at), 600 + at, file.checksumSeed, inos);
    }
    return test;
  }

  it("has the checksums that the kernel writes", () => {
    const empty = bytesOfDump(EMPTY_K, 4096);
    expect(orphanBlockChecksum(0x81ee3db9, 2065, empty)).toBe(0x2879a4cd);
  });

  it("gives the numbers of all its blocks, after those of the list, in one read", async () => {
    const test = filed([[0, 13, 0, 14], [15]]);
    expect(await orphans(test)).toEqual([50, 13, 14, 15]);
    expect(test.store.reads).toBe(1);
  });

  it("that Linux wrote for four inodes is read, on a volume without checksums", async () => {
    const sb = superblockWith(
      [SB.s_log_block_size, 2],
      [SB.s_feature_compat, 0x103c],
      [SB.s_feature_ro_compat, 0x1_006b],
      [SB.s_orphan_file_inum, ORPHAN_FILE_INO],
    );
    const test = makeTestCore(sb);
    const fields = { ino: ORPHAN_FILE_INO, mode: FILE, size: 4096, iBlock: [2065] };
    test.core.inodes.add(inodeWith(sb, fields));
    const dump = "000 0d000000 0e000000 0f000000 10000000\nff8 04ca100b 106b6099";
    test.block(2065).set(bytesOfDump(dump, 4096));
    expect(await orphans(test)).toEqual([13, 14, 15, 16]);
  });

  it("goes on where it was when a block of the list is missing", async () => {
    const test = filed([[13]]);
    const progress: OrphanProgress = { seen: new Set([60]), next: 0 };
    expect(await test.core.metadata.run(() => readOrphans(test.core, progress))).toEqual([60, 13]);
    const stopped: OrphanProgress = { seen: new Set(), next: 50 };
    test.core.inodes.clear();
    await expect(
      Promise.resolve(test.core.metadata.run(() => readOrphans(test.core, stopped))),
    ).rejects.toThrow();
    expect(stopped).toEqual({ seen: new Set(), next: 50 });
  });

  it("is not looked at when the volume says that it is empty", async () => {
    const sb = superblockWith([SB.s_feature_compat, 0x103c], [SB.s_orphan_file_inum, 40]);
    expect(await orphans(filed([[13]], sb))).toEqual([]);
  });

  it("is refused with an inode that the list has too, or that cannot be", async () => {
    await expect(orphans(filed([[50]]))).rejects.toThrow(/file block 0 has inode 50 twice/);
    await expect(orphans(filed([[4097]]))).rejects.toThrow(/file block 0 has inode 4097/);
    await expect(orphans(filed([[], [5]]))).rejects.toThrow(/file block 1 has inode 5/);
  });

  it("is refused with a wrong magic number or checksum, or a missing block", async () => {
    const magic = filed([[13]]);
    magic.block(600)[1016]! ^= 1;
    await expect(orphans(magic)).rejects.toThrow(/EUCLEAN.*block 600: ob_magic/);
    const checksum = filed([[13]]);
    checksum.block(600)[100]! ^= 1;
    await expect(orphans(checksum)).rejects.toThrow(/EBADMSG.*block 600/);
    const hole = filed([[13]]);
    const fields = { ino: ORPHAN_FILE_INO, mode: FILE, size: 2048, iBlock: [600] };
    hole.core.inodes.clear();
    hole.core.inodes.add(inodeWith(hole.core.sb, fields));
    hole.core.inodes.add(inodeWith(hole.core.sb, { ino: 50, mode: FILE, links: 0 }));
    await expect(orphans(hole)).rejects.toThrow(/EUCLEAN.*file block 1 is missing/);
    const huge = { ...fields, size: (hole.core.sb.blockCount + 1) * 1024 };
    hole.core.inodes.clear();
    hole.core.inodes.add(inodeWith(hole.core.sb, huge));
    hole.core.inodes.add(inodeWith(hole.core.sb, { ino: 50, mode: FILE, links: 0 }));
    await expect(orphans(hole)).rejects.toThrow(/EUCLEAN.*i_size/);
  });
});
