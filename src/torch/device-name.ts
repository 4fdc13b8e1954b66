// The names of devices: cpu, cuda, cuda:1. A device that is no CPU is a GPU.
export const isCpu = (device: string): boolean => device === "cpu" || device.startsWith("cpu:");

/** The number of a GPU; "cuda" is the first. */
export const deviceIndex = (device: string): number => Number(device.split(":")[1] ?? 0);
