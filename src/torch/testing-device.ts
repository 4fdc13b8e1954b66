// The device that tests of whole steps and runs compute on: the CPU, or what REVMOE_TEST_DEVICE names, as in
// REVMOE_TEST_DEVICE=cuda npm test -- train/ optim/. What is promised holds on every device, so the tests are the same.
import { useDevice } from "./device.js";

export const TEST_DEVICE = process.env.REVMOE_TEST_DEVICE ?? "cpu";

useDevice(TEST_DEVICE);
