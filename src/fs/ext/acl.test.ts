import { describe, expect, it } from "vitest";
import { bytesOfDump } from "../../../test/support/ext-vectors.ts";
import { hexOf, putLe16, putLe32 } from "../../lib/bytes.ts";
import { aclFromDisk, aclFromUser, aclToText, aclToUser } from "./acl.ts";

/** u::rw- u:1000:r-- g::r-- g:70000:rw- m::rw- o::---, as the kernel stored it. */
const STORED = `
  0dc  01000000
  0e0  01000600 02000400 e8030000 04000400 08000600 70110100 10000600 20000000
`;

describe("access control lists", () => {
  const stored = bytesOfDump(STORED, 36, 0xdc);

  it("are read from disk, and written for users", () => {
    const entries = aclFromDisk(stored, "here");
    expect(aclToText(entries)).toBe(
      "user::rw-,user:1000:r--,group::r--,group:70000:rw-,mask::rw-,other::---",
    );
    const shown = aclToUser(entries);
    expect(hexOf(shown)).toBe(
      "02000000" +
        "01000600ffffffff02000400e8030000" +
        "04000400ffffffff0800060070110100" +
        "10000600ffffffff20000000ffffffff",
    );
    expect(aclFromUser(shown)).toEqual(entries);
  });

  it("may have no entries", () => {
    const empty = stored.slice(0, 4);
    expect(aclFromDisk(empty, "here")).toEqual([]);
    expect(aclToText([])).toBe("");
  });

  it("show each of the eight permissions, and tags that nobody knows as numbers", () => {
    const words = Array.from({ length: 8 }, (_, perm) => aclToText([{ tag: 1, perm, id: 0 }]));
    expect(words.map((word) => word.slice(6))).toEqual([
      ...["---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx"],
    ]);
    expect(aclToText([{ tag: 64, perm: 0, id: 0 }])).toBe("64::---");
  });

  it("are refused when they are damaged, naming where", () => {
    const damages: readonly (readonly [number, (acl: Uint8Array) => void, string])[] = [
      [36, (acl) => putLe32(acl, 0, 2), "a_version is 2"],
      [36, (acl) => putLe16(acl, 4, 3), "e_tag is 3"],
      [3, () => {}, "it has 3 bytes"],
      [6, () => {}, "2 bytes are left over"],
      [12, () => {}, "its last entry is cut off"],
    ];
    for (const [length, damage, message] of damages) {
      const acl = stored.slice(0, length);
      damage(acl);
      expect(() => aclFromDisk(acl, "here"), message).toThrow(`here: ${message}`);
      expect(() => aclFromDisk(acl, "here"), message).toThrow("EUCLEAN");
    }
  });

  it("of users are refused in another form", () => {
    for (const bytes of [new Uint8Array(0), stored, new Uint8Array(7)]) {
      expect(() => aclFromUser(bytes)).toThrow("EINVAL");
    }
  });
});
