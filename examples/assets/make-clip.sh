#!/bin/sh
# Makes clip.ivf and clip.ogg again, 12 s of a moving pattern with a running clock, and soft tones; and
# clip-av1.ivf and clip-vp9.ivf.
# Needs ffmpeg with libvpx, libopus and libaom (Debian: apt-get install ffmpeg fonts-dejavu-core).
set -eu
cd "$(dirname "$0")"

# A slow plasma of two hues, a ball on a Lissajous curve, a running clock. A keyframe every second.
ffmpeg -hide_banner -loglevel error -y \
    -f lavfi -i "gradients=s=480x270:r=25:d=12:c0=0x10243f:c1=0x1f6f78:c2=0xf2a65a:c3=0x772f1a:n=4:speed=0.02:seed=7" \
    -f lavfi -i "color=c=0xf7e7ce:s=36x36:r=25:d=12,format=yuva420p,geq=lum='p(X,Y)':cb='p(X,Y)':cr='p(X,Y)':a='255*lt(hypot(X-17.5,Y-17.5),17)'" \
    -filter_complex "[0][1]overlay=x='222+180*sin(2*PI*t/6)':y='117+90*sin(2*PI*t/4)',drawtext=font=DejaVu Sans Mono:text='%{pts\:hms}':fontsize=30:fontcolor=white:box=1:boxcolor=0x00000080:boxborderw=8:x=(w-tw)/2:y=h-th-20,drawtext=font=DejaVu Sans:text='streampay':fontsize=22:fontcolor=0xffffffcc:x=16:y=14,format=yuv420p[v]" \
    -map "[v]" -t 12 -c:v libvpx -b:v 380k -minrate 200k -maxrate 600k -bufsize 800k \
    -g 25 -keyint_min 25 -auto-alt-ref 0 -lag-in-frames 0 -deadline good -cpu-used 1 -threads 1 \
    -error-resilient 1 -fflags +bitexact -f ivf clip.ivf

# A chord that breathes, one partial a third of a second apart.
ffmpeg -hide_banner -loglevel error -y \
    -f lavfi -i "aevalsrc='0.10*sin(2*PI*220*t)*(0.6+0.4*sin(2*PI*t/4))+0.08*sin(2*PI*277.18*t)*(0.6+0.4*sin(2*PI*t/3))+0.07*sin(2*PI*329.63*t)*(0.6+0.4*sin(2*PI*t/6))|0.10*sin(2*PI*220*t)*(0.6+0.4*cos(2*PI*t/4))+0.08*sin(2*PI*277.18*t)*(0.6+0.4*cos(2*PI*t/3))+0.07*sin(2*PI*329.63*t)*(0.6+0.4*cos(2*PI*t/6))':s=48000:d=12" \
    -c:a libopus -b:a 48k -frame_duration 20 -fflags +bitexact -f ogg clip.ogg

# Small ones in AV1 and VP9, for tests: a key frame every second.
ffmpeg -hide_banner -loglevel error -y -f lavfi -i testsrc=size=64x48:rate=25:duration=2 \
    -pix_fmt yuv420p -c:v libaom-av1 -cpu-used 8 -usage realtime -lag-in-frames 0 -crf 50 -b:v 0 \
    -g 25 -f ivf clip-av1.ivf
ffmpeg -hide_banner -loglevel error -y -f lavfi -i testsrc=size=64x48:rate=25:duration=2 \
    -pix_fmt yuv420p -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0 \
    -crf 50 -b:v 0 -g 25 -fflags +bitexact -f ivf clip-vp9.ivf
