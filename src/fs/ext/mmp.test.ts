import { expect, it } from "vitest";
import { makeTestCore, superblockWith } from "../../../test/support/ext-core.ts";
import { bytesOfDump, MMP_BLOCK_A } from "../../../test/support/ext-vectors.ts";
import { SB } from "./layout.ts";
import { type MmpState, readMmp } from "./mmp.ts";

/** Image A's block 2065, in blocks of 4 KiB of which the structure takes a quarter. */
async function read(change: (block: Uint8Array) => void, blocknr = 2065): Promise<MmpState> {
  const sb = superblockWith(
    [SB.s_log_block_size, 2],
    [SB.s_first_data_block, 0],
    [SB.s_blocks_count_lo, 2100],
    [SB.s_mmp_block, blocknr],
  );
  const image = makeTestCore(sb);
  image.block(2065).set(bytesOfDump(MMP_BLOCK_A, 1024));
  change(image.block(2065));
  return image.core.metadata.run(() => readMmp(image.core));
}

it("the block of image A says that nobody is there", async () => {
  expect(await read(() => {})).toEqual({
    state: "clean",
    sequence: 0xff4d_4d50,
    timeSec: 0x6b00_ac68,
    nodeName: "vm",
    deviceName: "a.img",
    checkIntervalSec: 5,
  });
});

it("what lies behind the structure in its block does not count", async () => {
  expect((await read((block) => block.fill(7, 1024))).state).toBe("clean");
});

it("is EBADMSG or EUCLEAN when it is damaged", async () => {
  const flip = (at: number) => (block: Uint8Array) => {
    block[at]! ^= 1;
  };
  await expect(read(flip(0x10))).rejects.toMatchObject({ code: "EBADMSG" });
  await expect(read(flip(0))).rejects.toMatchObject({ code: "EUCLEAN" });
  for (const blocknr of [0, 16_384, 0x7fff_ffff]) {
    await expect(read(() => {}, blocknr)).rejects.toThrow(/EUCLEAN.*s_mmp_block/);
  }
  await expect(read(() => {}, 5000)).rejects.toMatchObject({ code: "EUCLEAN" });
});
