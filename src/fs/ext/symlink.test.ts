import { describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import {
  ascii,
  type InodeFields,
  inodeWith,
  inodeXattrs,
} from "../../../test/support/ext-names.ts";
import { putLe16 } from "../../lib/bytes.ts";
import { encodeNoKeyName } from "./crypt-name.ts";
import { ENCRYPT_FL, INLINE_DATA_FL, S_IFLNK, S_IFREG, SB } from "./layout.ts";
import { readSymlink } from "./symlink.ts";

const INCOMPAT_EA_INODE = 0x6c2;
const LINK = S_IFLNK | 0o777;

async function read(test: TestCore, fields: Partial<InodeFields>): Promise<string> {
  const inode = inodeWith(test.core.sb, { mode: LINK, ...fields });
  const target = await test.core.metadata.run(() => readSymlink(test.core, inode));
  return new TextDecoder().decode(target);
}

describe("readSymlink", () => {
  it("reads a short target from i_block, with and without an attribute block", async () => {
    const test = makeTestCore(superblockWith());
    const short = { size: 5, iBlock: ascii("abcde") };
    expect(await read(test, short)).toBe("abcde");
    expect(await read(test, { ...short, sectors: 2, fileAclBlock: 700 })).toBe("abcde");
    expect(await read(test, { size: 59, iBlock: ascii("x".repeat(59)) })).toBe("x".repeat(59));
  });

  it("reads a long target from its block", async () => {
    const test = makeTestCore(superblockWith());
    test.block(600).set(ascii("y".repeat(1023)));
    const long = { iBlock: [600], sectors: 2 };
    expect(await read(test, { ...long, size: 60 })).toBe("y".repeat(60));
    expect(await read(test, { ...long, size: 1023 })).toBe("y".repeat(1023));
    const beside = { ...long, size: 60, sectors: 4, fileAclBlock: 700 };
    expect(await read(test, beside)).toBe("y".repeat(60));
  });

  it("goes by the size where attributes may have inodes that are charged to it", async () => {
    const test = makeTestCore(superblockWith([SB.s_feature_incompat, INCOMPAT_EA_INODE]));
    const fields = { size: 5, sectors: 18, iBlock: ascii("abcde") };
    expect(await read(test, fields)).toBe("abcde");
  });

  it("reads a target that goes on in an attribute", async () => {
    const test = makeTestCore(superblockWith([SB.s_feature_incompat, 0x82c2]));
    const tail = { index: 7, name: "data", value: ascii("tail") };
    const fields = {
      size: 64,
      flags: INLINE_DATA_FL,
      iBlock: ascii("z".repeat(60)),
      xattrs: inodeXattrs(256, [tail]),
    };
    expect(await read(test, fields)).toBe(`${"z".repeat(60)}tail`);
    await expect(read(test, { ...fields, size: 65 })).rejects.toThrow(
      "i_size is 65, 64 are inline",
    );
  });

  it("shows an encrypted target in the no-key form", async () => {
    const test = makeTestCore(superblockWith());
    const ciphertext = Uint8Array.from({ length: 32 }, (_, at) => at * 3);
    const area = new Uint8Array(60);
    putLe16(area, 0, ciphertext.length);
    area.set(ciphertext, 2);
    const shown = new TextDecoder().decode(encodeNoKeyName({ major: 0, minor: 0 }, ciphertext));
    const fields = { size: 34, flags: ENCRYPT_FL };
    expect(await read(test, { ...fields, iBlock: area })).toBe(shown);
    test.block(600).set(area);
    expect(await read(test, { ...fields, iBlock: [600], sectors: 2 })).toBe(shown);
    for (const length of [0, 15, 59]) {
      putLe16(area, 0, length);
      await expect(read(test, { ...fields, iBlock: area })).rejects.toThrow(`has ${length} bytes`);
    }
  });

  it("refuses lengths that do not fit, missing blocks, and NUL", async () => {
    const test = makeTestCore(superblockWith());
    const damages: readonly (readonly [Partial<InodeFields>, string])[] = [
      [{ size: 0 }, "i_size is 0"],
      [{ size: 60 }, "too long for i_block"],
      [{ size: 1024, sectors: 2, iBlock: [600] }, "too long for one block"],
      [{ size: 100, sectors: 2 }, "its block is missing"],
      [{ size: 6, iBlock: ascii("ab\0cde") }, "NUL"],
      [{ size: 100, sectors: 2, iBlock: [600] }, "NUL"],
    ];
    for (const [fields, message] of damages) {
      await expect(read(test, fields)).rejects.toThrow(message);
      await expect(read(test, fields)).rejects.toThrow(/EUCLEAN.*symlink 12/);
    }
  });

  it("refuses what is no symlink", async () => {
    const test = makeTestCore(superblockWith());
    await expect(read(test, { mode: S_IFREG })).rejects.toMatchObject({ code: "EINVAL" });
  });
});
